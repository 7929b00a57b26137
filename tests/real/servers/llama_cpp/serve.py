"""llama.cpp's server out of its Python package, with the options of `llama-server` that the tests use."""

import argparse
import signal

import xllamacpp

asked = argparse.ArgumentParser()
asked.add_argument("-m", dest="model", required=True)
asked.add_argument("--alias", required=True)
asked.add_argument("--port", type=int, required=True)
asked.add_argument("--api-key", required=True)
asked.add_argument("-c", dest="context", type=int, required=True)
asked.add_argument("-np", dest="slots", type=int, required=True)
asked = asked.parse_args()

told = xllamacpp.CommonParams()
told.model.path = asked.model
told.model_alias = {asked.alias}
told.hostnames = ["127.0.0.1"]
told.port = asked.port
told.api_keys = [asked.api_key]
told.n_ctx, told.n_parallel = asked.context, asked.slots
told.cpuparams.n_threads = told.cpuparams_batch.n_threads = 1
told.endpoint_metrics = told.endpoint_slots = told.offline = True
told.ui = False
# Half precision would make an answer hang on which others are worked on beside it.
told.cache_type_k = told.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
told.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(told)
signal.pause()
