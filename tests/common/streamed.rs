//! A reply cut into the events that a server streams it in, as each protocol has them.

#![allow(dead_code, reason = "each test binary uses another part of it")]

use serde_json::{Value, json};

use crate::loopback::{Act, reply};

/// A reply that is this stream.
pub fn stream(text: &str) -> Act {
    reply(
        200,
        &[("content-type", "text/event-stream; charset=utf-8")],
        text.as_bytes(),
        0,
    )
}

/// The events of a reply, the last of them included.
pub fn events(protocol: &str, reply: &Value) -> Vec<String> {
    match protocol {
        "openai_chat" | "llama_cpp_chat" | "vllm_chat" => choices(reply, |choice| {
            let message = &choice["message"];
            let mut deltas = vec![json!({"role": "assistant", "content": null})];
            for name in ["content", "refusal"] {
                deltas.extend(pieces(&message[name]).map(|piece| json!({ name: piece })));
            }
            deltas.push(json!({}));
            deltas.iter().map(|delta| json!({"delta": delta})).collect()
        }),
        "openai_completions" | "vllm_completions" => choices(reply, |choice| {
            let mut texts: Vec<_> = pieces(&choice["text"]).collect();
            texts.push(String::new());
            texts.iter().map(|text| json!({"text": text})).collect()
        }),
        "openai_responses" => response(reply),
        "anthropic_messages" => message(reply),
        "anthropic_complete" => grown(reply, "completion", json!({"stop_reason": null})),
        "llama_cpp_completion" => {
            let mut reply = reply.clone();
            reply["stop"] = true.into();
            grown(&reply, "content", json!({"stop": false}))
        }
        other => panic!("{other} has no streams"),
    }
}

/// A text, three characters at a time.
fn pieces(text: &Value) -> impl Iterator<Item = String> + use<> {
    let characters: Vec<char> = text.as_str().unwrap_or_default().chars().collect();
    let pieces: Vec<String> = characters
        .chunks(3)
        .map(|three| three.iter().collect())
        .collect();
    pieces.into_iter()
}

fn event(name: &str, data: &Value) -> String {
    match name {
        "" => format!("data: {data}\n\n"),
        name => format!("event: {name}\ndata: {data}\n\n"),
    }
}

/// An object with some fields of another put over it.
fn with(reply: &Value, over: Value) -> Value {
    let mut reply = reply.clone();
    for (name, value) in over.as_object().expect("an object") {
        reply[name] = value.clone();
    }
    reply
}

fn choices(reply: &Value, cut: impl Fn(&Value) -> Vec<Value>) -> Vec<String> {
    let head = with(reply, json!({"choices": [], "usage": null}));
    let chunk = |choices: Value| event("", &with(&head, json!({ "choices": choices })));
    let mut events = Vec::new();
    for choice in reply["choices"].as_array().expect("choices") {
        let cut = cut(choice);
        let last = cut.len() - 1;
        for (number, piece) in cut.into_iter().enumerate() {
            let reason = (number == last).then_some(&choice["finish_reason"]);
            let over = json!({"index": choice["index"], "finish_reason": reason});
            events.push(chunk(json!([with(&piece, over)])));
        }
    }
    events.push(event("", &with(&head, json!({"usage": reply["usage"]}))));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn response(reply: &Value) -> Vec<String> {
    let named = |name: &str, more: Value| {
        let data = with(&json!({ "type": name }), more);
        event(name, &data)
    };
    let begun = with(
        reply,
        json!({"status": "in_progress", "output": [], "usage": null}),
    );
    let mut events = vec![
        named("response.created", json!({ "response": begun })),
        named("response.in_progress", json!({ "response": begun })),
    ];
    for item in reply["output"].as_array().into_iter().flatten() {
        for part in item["content"].as_array().into_iter().flatten() {
            let deltas = pieces(&part["text"]);
            events.extend(
                deltas.map(|delta| named("response.output_text.delta", json!({ "delta": delta }))),
            );
        }
        events.push(named("response.output_item.done", json!({ "item": item })));
    }
    let status = reply["status"].as_str().unwrap_or("completed");
    events.push(named(
        &format!("response.{status}"),
        json!({ "response": reply }),
    ));
    events
}

fn message(reply: &Value) -> Vec<String> {
    let named = |data: Value| event(data["type"].as_str().expect("a type"), &data);
    let start = with(
        reply,
        json!({"content": [], "stop_reason": null, "stop_details": null}),
    );
    let start = with(
        &start,
        json!({"usage": with(&reply["usage"], json!({"output_tokens": 1}))}),
    );
    let mut events = vec![named(json!({"type": "message_start", "message": start}))];
    for (index, block) in reply["content"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let empty = match block["text"].is_string() {
            true => with(block, json!({"text": ""})),
            false => block.clone(),
        };
        events.push(named(
            json!({"type": "content_block_start", "index": index, "content_block": empty}),
        ));
        events.push(named(json!({"type": "ping"})));
        for piece in pieces(&block["text"]) {
            let delta = json!({"type": "text_delta", "text": piece});
            events.push(named(
                json!({"type": "content_block_delta", "index": index, "delta": delta}),
            ));
        }
        events.push(named(json!({"type": "content_block_stop", "index": index})));
    }
    let mut delta = json!({"stop_reason": reply["stop_reason"]});
    if !reply["stop_details"].is_null() {
        delta["stop_details"] = reply["stop_details"].clone();
    }
    let usage = json!({"output_tokens": reply["usage"]["output_tokens"]});
    events.push(named(
        json!({"type": "message_delta", "delta": delta, "usage": usage}),
    ));
    events.push(named(json!({"type": "message_stop"})));
    events
}

/// Events with a piece of the text each, the last with everything else.
fn grown(reply: &Value, name: &str, unfinished: Value) -> Vec<String> {
    let kind = reply["type"].as_str().unwrap_or_default();
    let of = |text: String| json!({ name: text });
    let events = pieces(&reply[name]).map(|piece| with(&unfinished, of(piece)));
    let last = with(reply, of(String::new()));
    events
        .chain([last])
        .map(|data| event(kind, &data))
        .collect()
}
