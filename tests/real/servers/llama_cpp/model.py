"""Writes a tiny model of the Llama family with random weights: `model.py OUT`. Its answers are printable nonsense.

The first number of every embedding is a constant which the layers leave alone, so that the first column of the output layer is
a bias for each token: control tokens and raw bytes never come, and the end of an answer comes after a few tokens.
"""

import sys

import gguf
import numpy

WIDTH, LAYERS, HEADS, SHARED_HEADS, INNER, CONTEXT = 64, 2, 4, 2, 128, 4096
NEVER, END = -40.0, 2.0

kinds = gguf.TokenType
vocabulary = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
vocabulary += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
words = "▁t he ▁a in er ▁the on ▁s re at en ▁of ▁and ▁to ou is it or ing ▁for ▁that ▁question ▁answer ▁yes ▁no ▁ \n".split(" ")
plain = range(len(vocabulary), len(vocabulary) + len(words) + 0x7F - 0x21)
vocabulary += [(piece, kinds.NORMAL) for piece in words + [chr(code) for code in range(0x21, 0x7F)]]
vocabulary += [("<|im_start|>", kinds.CONTROL), ("<|im_end|>", kinds.CONTROL)]

random = numpy.random.default_rng(1)


def noise(rows, columns, scale):
    return (random.standard_normal((rows, columns)) * scale).astype(numpy.float32)


model = gguf.GGUFWriter(sys.argv[1], "llama")
model.add_name("tiny")
model.add_context_length(CONTEXT)
model.add_embedding_length(WIDTH)
model.add_block_count(LAYERS)
model.add_feed_forward_length(INNER)
model.add_head_count(HEADS)
model.add_head_count_kv(SHARED_HEADS)
model.add_rope_dimension_count(WIDTH // HEADS)
model.add_layer_norm_rms_eps(1e-5)
model.add_vocab_size(len(vocabulary))
model.add_file_type(gguf.LlamaFileType.ALL_F32)
model.add_tokenizer_model("llama")
model.add_tokenizer_pre("default")
model.add_token_list([token.encode() for token, _ in vocabulary])
# Earlier pieces are merged first.
model.add_token_scores([float(plain.start - place) if place in plain else 0.0 for place in range(len(vocabulary))])
model.add_token_types([int(kind) for _, kind in vocabulary])
model.add_bos_token_id(1)
model.add_eos_token_id(2)
model.add_unk_token_id(0)
model.add_add_bos_token(True)
model.add_add_eos_token(False)
model.add_add_space_prefix(False)
model.add_chat_template(
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

embedding = noise(len(vocabulary), WIDTH, 1.0)
embedding[:, 0] = 8.0
model.add_tensor("token_embd.weight", embedding)
for layer in range(LAYERS):
    shared = SHARED_HEADS * WIDTH // HEADS
    weights = {
        "attn_q": noise(WIDTH, WIDTH, WIDTH**-0.5),
        "attn_k": noise(shared, WIDTH, WIDTH**-0.5),
        "attn_v": noise(shared, WIDTH, WIDTH**-0.5),
        "attn_output": noise(WIDTH, WIDTH, 0.3 * WIDTH**-0.5),
        "ffn_gate": noise(INNER, WIDTH, WIDTH**-0.5),
        "ffn_up": noise(INNER, WIDTH, WIDTH**-0.5),
        "ffn_down": noise(WIDTH, INNER, 0.3 * INNER**-0.5),
        "attn_norm": numpy.ones(WIDTH, numpy.float32),
        "ffn_norm": numpy.ones(WIDTH, numpy.float32),
    }
    weights["attn_output"][0, :] = weights["ffn_down"][0, :] = 0
    for name, tensor in weights.items():
        model.add_tensor(f"blk.{layer}.{name}.weight", tensor)
model.add_tensor("output_norm.weight", numpy.ones(WIDTH, numpy.float32))
bias = numpy.full(len(vocabulary), NEVER)
bias[plain.start : plain.stop] = 0.0
bias[2] = END
output = noise(len(vocabulary), WIDTH, 0.35)
# What the last normalisation leaves of the constant.
output[:, 0] = bias / (8.0 / numpy.sqrt((64.0 + (WIDTH - 1) * 1.3) / WIDTH))
model.add_tensor("output.weight", output)

model.write_header_to_file()
model.write_kv_data_to_file()
model.write_tensors_to_file()
model.close()
