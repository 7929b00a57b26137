//! The job as written: every key of the job file, what it holds and what it means.
//!
//! One block a mapping. Nothing is checked here but the form; defaults and rules are `resolve`'s.

use std::time::Duration;

use serde_json::Value as Json;

use super::Problem;
use super::answering::{Label, NumberForm, Parts};
use super::decode::{At, Decode, List, Named, Share, Texts, keys, wrong};
use super::gating::Gate;
use super::inputs::{Delimiter, InputFormat, OnBadEncoding, OnRagged};
use super::named::BackendType;
use super::order::{FallbackOn, Names};
use super::plan::{CsvSafe, Durability, MaxFailures, OnUnknown, OutputFormat};
use super::schema::{Shapes, any_of, list_of};
use super::scoring::{Ignore, Scorers, Tolerance};
use super::spending::BudgetMode;
use super::yaml::{Node, Value};
use crate::words::{Rate, Role, Usd};

keys! {
    /// A job: what is asked about each row of which inputs, who is asked, and where the answers go.
    JobKeys {
        /// The job's name; default: the file's stem.
        name: String,
        /// Where the rows come from.
        inputs: Inputs,
        /// What is asked for each row.
        prompt: Prompt,
        /// The backends by name.
        backends: Named<BackendKeys>,
        /// What an answer must be; default: any text.
        answer: AnswerKeys,
        /// How good the answers are: a scorer, or a list of them.
        score: Scorers,
        /// Who is asked last where the entries of the matrix disagree.
        escalate: Names,
        /// The order in which backends are tried; default: the order in which they are written.
        fallback: List<String>,
        /// Every row is asked of each of these: names of backends or fallback lists.
        matrix: List<Names>,
        /// Rules for who is asked; the first that matches a row decides.
        route: List<RuleKeys>,
        /// How often every row is asked; default: 1.
        repeat: u32,
        /// After so long a wait for a backend's limits or pause the next one is asked.
        fallback_after: Duration,
        /// On which answers the next backend is asked.
        fallback_on: List<FallbackOn>,
        /// After this long without an answer a second request is made beside the first.
        hedge_after: Duration,
        /// How often and how patiently a backend is tried.
        retry: RetryKeys,
        /// The most rows in flight over all backends; default: 64.
        concurrency: usize,
        /// How many rows (or `1%`) may end without an answer before the run fails; default: 0.
        max_failures: MaxFailures,
        /// What the job may cost in US dollars, over all its runs.
        budget: Budget,
        /// What one result line may cost in US dollars, over all its attempts.
        max_cost_per_row: Usd,
        /// Which share of what was paid may be wasted before the run ends.
        max_waste: MaxWaste,
        /// What a stored answer survives; default: full.
        durability: Durability,
        /// What is done about rows whose request was sent by a runner that was killed; default: resend.
        on_unknown: OnUnknown,
        /// A file of answers that jobs share, relative to the job file.
        cache: String,
        /// Files of prices, relative to the job file; the first that names a model says what it costs.
        prices: Texts,
        /// Whether rows that ask the same are asked once; default: false.
        dedupe: bool,
        /// The default of the backends' `timeout`.
        timeout: Duration,
        /// What the run must come to.
        gate: Gate,
        /// Where and how results are written.
        output: OutputKeys,
    }
}

keys! {
    /// A limit that the whole interval of a figure must keep to.
    BoundKeys {
        /// Not below this.
        at_least: Node,
        /// Not above this.
        at_most: Node,
    }
}

keys! {
    /// The run that a job must not be worse than.
    BaselineKeys {
        /// A run's directory, or a baseline file; relative to the job file.
        path: String,
        /// By how much the mean score may have dropped; default: 0.02.
        not_worse_than: f64,
        /// How sure that must be; default: 0.95.
        confidence: f64,
        /// The scorer whose scores are compared; default: the first.
        metric: String,
        /// Which share of the rows may lack a partner; default: 0.
        max_missing: Share,
    }
}

keys! {
    /// One input.
    InputKeys {
        /// A path or glob pattern, relative to the job file; `-` is standard input.
        path: String,
        /// The form of its files: csv, tsv, jsonl, parquet; default: what each file's name says.
        format: InputFormat,
        /// What stands between the cells of CSV: one sign, or tab; default: a comma.
        delimiter: Delimiter,
        /// What is done about a record that is not UTF-8: fail, replace, skip; default: fail.
        on_bad_encoding: OnBadEncoding,
        /// What is done about a record with more or fewer cells than the header: fail, skip; default: fail.
        on_ragged: OnRagged,
        /// The column that names a row; default: file and record number.
        id: String,
        /// Use only the first so many rows.
        limit: u64,
        /// Use only a random sample.
        sample: SampleKeys,
    }
}

keys! {
    /// A random sample of an input.
    SampleKeys {
        /// How many rows.
        rows: u64,
        /// What the draw depends on; default: 0.
        seed: u64,
    }
}

keys! {
    /// A prompt that is more than a user message.
    PromptKeys {
        /// The system message, a template.
        system: String,
        /// The user message, a template.
        user: String,
        /// The whole conversation, instead of `system` and `user`.
        messages: List<MessageKeys>,
        /// A file with the user message, relative to the job file.
        file: String,
    }
}

keys! {
    /// What an answer must be: one of `labels`, `json_schema`, `pattern` and `number`.
    AnswerKeys {
        /// One of these.
        labels: List<Label>,
        /// One more label, by which a model says that it cannot tell.
        abstain: Label,
        /// JSON that this schema holds of: the schema, or the path of a file with it.
        json_schema: Node,
        /// A text in which this regular expression is found.
        pattern: String,
        /// A number: `true`, or its bounds.
        number: NumberForm,
        /// How often each backend is asked again for an answer that is not valid; default: 1.
        reask: u32,
        /// Whether the form is sent to backends that take one; default: true.
        structured: bool,
        /// Parts of a JSON answer that get columns of their own.
        columns: Parts,
    }
}

keys! {
    /// The bounds of a number.
    NumberKeys {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
        /// Whether it has to be a whole one; default: false.
        whole: bool,
    }
}

keys! {
    /// A scorer: one of `equals`, `contains`, `regex`, `number`, `json_path`, `judge` and `command`.
    ScorerKeys {
        /// What its scores are called; default: what it does.
        name: String,
        /// The answer is this text, a template over the row.
        equals: String,
        /// The answer contains this text, or each of these; templates over the row.
        contains: Texts,
        /// This regular expression is found in the answer; a template over the row.
        regex: String,
        /// The answer is this number; a template over the row.
        number: String,
        /// By how much a number may be off: `0.5`, or `1%` of the number that is wanted; default: 0.
        tolerance: Tolerance,
        /// The place in a JSON answer that is looked at; alone: that there is something at it.
        json_path: String,
        /// A model that reads the answer and says how good it is.
        judge: JudgeKeys,
        /// A program that reads lines of JSON and writes one with a score for each.
        command: Texts,
        /// How long the program may take for one answer; default: 60s.
        timeout: Duration,
        /// What makes no difference: case, space, punctuation; default: space.
        ignore: List<Ignore>,
    }
}

keys! {
    /// A model that says how good an answer is.
    JudgeKeys {
        /// The backend, or several as a fallback list.
        backend: Names,
        /// What a good answer is, a template over the row.
        rubric: String,
        /// The verdicts and what each is worth, from 0 to 1; default: `{ pass: 1, fail: 0 }`.
        choices: Named<f64>,
    }
}

keys! {
    /// A turn of the conversation.
    MessageKeys {
        /// Who speaks: system, user or assistant.
        role: Role,
        /// What is said, a template.
        content: String,
    }
}

keys! {
    /// A rule of a route.
    RuleKeys {
        /// The rows that it is for, an expression over the row; default: every row.
        when: String,
        /// A backend, or several as a fallback list.
        to: Names,
    }
}

keys! {
    /// A backend. Which types and apis take which key: see `parameters`.
    BackendKeys {
        /// What it speaks: echo, openai, anthropic, llama_cpp, vllm, http or custom.
        r#type: BackendType,
        /// The server; openai's with its `/v1`, http's whole address, the others' root.
        url: String,
        /// The model.
        model: String,
        /// Which endpoint of the server, where there are several.
        api: String,
        /// The *name* of the environment variable that holds the key.
        api_key_env: String,
        /// From sending to the end of the reply.
        timeout: Duration,
        /// How long a reply that has begun may be silent; default: 60s.
        idle_timeout: Duration,
        /// Whether answers are asked for as streams; default: false.
        stream: bool,
        /// An HTTP proxy.
        proxy: String,
        /// The most tokens of an answer.
        max_tokens: u32,
        /// Randomness.
        temperature: f64,
        /// The share of probability that is kept.
        top_p: f64,
        /// How many tokens are kept.
        top_k: u32,
        /// The least share of the best token's probability that is kept.
        min_p: f64,
        /// Texts that end an answer.
        stop: Texts,
        /// The server's seed; for echo what failures are drawn from.
        seed: u64,
        /// Penalty on tokens by how often they occurred.
        frequency_penalty: f64,
        /// Penalty on tokens that occurred.
        presence_penalty: f64,
        /// How much a reasoning model thinks.
        reasoning_effort: String,
        /// Echo: how long an answer takes; default: 10ms.
        delay: Duration,
        /// Echo: the answer, a template over the row and `prompt`; default: the prompt.
        reply: String,
        /// Echo: the usage that it reports; default: words are counted.
        usage: UsageKeys,
        /// Echo: the share of attempts that fail, by error class.
        failures: Named<Share>,
        /// Http: headers that anyone may see.
        headers: Named<String>,
        /// Http: headers, and the *names* of the environment variables that hold their values.
        headers_env: Named<String>,
        /// Http: what is posted; every text in it is a template.
        body: Node,
        /// Http: where to look in the reply.
        pointers: PointerKeys,
        /// Ceilings on its use.
        limits: LimitKeys,
        /// Whose limits they are: backends of the same account share them.
        account: String,
        /// USD per million tokens; default: `prices`, the built-in table, nothing for local backends.
        price: PriceKeys,
    }
}

keys! {
    /// The usage that an echo backend reports.
    UsageKeys {
        /// Input tokens of an answer.
        input_tokens: u64,
        /// Output tokens of an answer.
        output_tokens: u64,
    }
}

keys! {
    /// JSON pointers into the replies of an http backend.
    PointerKeys {
        /// The text of the answer.
        text: String,
        /// How many tokens went in.
        input_tokens: String,
        /// How many tokens came out.
        output_tokens: String,
        /// The model that answered.
        model: String,
        /// Why it stopped.
        finish_reason: String,
        /// What makes a reply an error although its status is good.
        error: String,
    }
}

keys! {
    /// Ceilings on the use of a backend.
    LimitKeys {
        /// Requests in any 60 seconds.
        requests_per_minute: u32,
        /// Requests that may be made at once, on top of a minute's.
        burst: u32,
        /// Input and output tokens in any 60 seconds.
        tokens_per_minute: u64,
        /// Input tokens in any 60 seconds.
        input_tokens_per_minute: u64,
        /// Output tokens in any 60 seconds.
        output_tokens_per_minute: u64,
        /// Requests in flight.
        concurrency: usize,
    }
}

keys! {
    /// A price in USD per million tokens.
    PriceKeys {
        /// Input that no cache served.
        input: Rate,
        /// Output, reasoning included.
        output: Rate,
        /// Input read from the provider's cache; default: as input.
        cache_read: Rate,
        /// Input written to the cache for 5 minutes; default: as input.
        cache_write_5m: Rate,
        /// Input written to the cache for an hour; default: as input.
        cache_write_1h: Rate,
        /// The fee of each request that is answered, in USD; default: none.
        per_request: Usd,
        /// An hour of the server in USD, shared by the requests in flight; default: none.
        per_hour: Usd,
    }
}

keys! {
    /// A budget that is more than an amount.
    BudgetKeys {
        /// What the job may cost in US dollars, over all its runs.
        usd: Usd,
        /// What is reserved for a request before it is sent: strict or calibrated; default: strict.
        mode: BudgetMode,
    }
}

keys! {
    /// How much may be wasted, and from when on.
    MaxWasteKeys {
        /// The share of what was paid.
        share: Share,
        /// How many rows must have ended before; default: 100.
        after: u64,
    }
}

keys! {
    /// How often and how patiently a backend is tried.
    RetryKeys {
        /// Attempts on each backend, the first included; default: 3.
        attempts: u32,
        /// The longest first wait; default: 500ms.
        initial: Duration,
        /// The longest wait; default: 30s.
        max: Duration,
        /// How long a backend may answer with nothing but throttling; default: 15m.
        max_throttle_wait: Duration,
        /// How long a backend that has answered before may be away; default: 15m.
        max_outage: Duration,
    }
}

keys! {
    /// Where and how results are written.
    OutputKeys {
        /// The directory; default: `runs/<name>`, relative to the working directory.
        dir: String,
        /// The results files: csv, jsonl, parquet; default: the first two.
        formats: List<OutputFormat>,
        /// What stands before the name of each column that the runner adds.
        prefix: String,
        /// What results.csv does about answers that a spreadsheet would take for formulas: prefix, off; default: prefix.
        csv_safe: CsvSafe,
    }
}

/// A path, a mapping, or a list of either.
#[derive(Debug, Clone)]
pub struct Inputs(pub Vec<Input>);

/// One input: only its path, or with its options.
#[derive(Debug, Clone)]
pub struct Input {
    /// The options, the path among them.
    pub keys: InputKeys,
    /// Where it stands.
    pub span: super::source::Span,
}

impl Decode for Inputs {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return Some(Self(vec![Input::decode(node, problems)?]));
        };
        let inputs = items
            .iter()
            .filter_map(|item| Input::decode(item, problems));
        Some(Self(inputs.collect()))
    }

    fn schema(shapes: &mut Shapes) -> Json {
        let path = String::schema(shapes);
        let input = InputKeys::schema(shapes);
        let one = any_of([path.clone(), input.clone()]);
        any_of([path, input, list_of(one)])
    }
}

impl Decode for Input {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let keys = match &node.value {
            Value::Text(path) => InputKeys {
                path: Some(At {
                    value: path.clone(),
                    span: node.span.clone(),
                }),
                ..InputKeys::default()
            },
            Value::Mapping(_) => InputKeys::decode(node, problems)?,
            _ => return wrong(node, "a path, or a mapping with the key `path`", problems),
        };
        let span = node.span.clone();
        Some(Self { keys, span })
    }

    fn schema(shapes: &mut Shapes) -> Json {
        any_of([String::schema(shapes), InputKeys::schema(shapes)])
    }
}

/// A budget: only its amount, or with its options.
#[derive(Debug, Clone)]
pub struct Budget(pub BudgetKeys);

impl Decode for Budget {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        if let Value::Mapping(_) = &node.value {
            return BudgetKeys::decode(node, problems).map(Self);
        }
        let usd = only(node, problems)?;
        Some(Self(BudgetKeys {
            usd,
            ..BudgetKeys::default()
        }))
    }

    fn schema(shapes: &mut Shapes) -> Json {
        any_of([Usd::schema(shapes), BudgetKeys::schema(shapes)])
    }
}

/// A share that may be wasted, or that and from when on.
#[derive(Debug, Clone)]
pub struct MaxWaste(pub MaxWasteKeys);

impl Decode for MaxWaste {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        if let Value::Mapping(_) = &node.value {
            return MaxWasteKeys::decode(node, problems).map(Self);
        }
        let share = only(node, problems)?;
        Some(Self(MaxWasteKeys {
            share,
            ..MaxWasteKeys::default()
        }))
    }

    fn schema(shapes: &mut Shapes) -> Json {
        any_of([Share::schema(shapes), MaxWasteKeys::schema(shapes)])
    }
}

/// The only value of what might be a mapping.
fn only<T: Decode>(node: &Node, problems: &mut Vec<Problem>) -> Option<Option<At<T>>> {
    let value = T::decode(node, problems)?;
    let span = node.span.clone();
    Some(Some(At { value, span }))
}

/// A user message, or more.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Only a user message.
    User(String),
    /// Whatever the keys say.
    Keys(Box<PromptKeys>),
}

impl Decode for Prompt {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self::User(text.clone())),
            Value::Mapping(_) => {
                PromptKeys::decode(node, problems).map(|keys| Self::Keys(Box::new(keys)))
            }
            _ => wrong(node, "a text, or a mapping with the key `user`", problems),
        }
    }

    fn schema(shapes: &mut Shapes) -> Json {
        any_of([String::schema(shapes), PromptKeys::schema(shapes)])
    }
}
