/* The help texts. */
#include "pipeline/help.h"

const char mp_help_overview[] =
    "magicpig-pipe: text from very long prompts, with LSH-sampled attention on StarPU\n"
    "\n"
    "  magicpig-pipe [generate] --config FILE --input FILE   answer the prompts of a file\n"
    "  magicpig-pipe plan       --config FILE --context N    memory a run would take\n"
    "  magicpig-pipe logits     --model DIR --tokens FILE --output FILE\n"
    "                                                        full-attention logits\n"
    "  magicpig-pipe tokenize   --model DIR [--json FILE]    text to token ids\n"
    "  magicpig-pipe detokenize --model DIR --json FILE      token ids to text\n"
    "\n"
    "  magicpig-pipe VERB --help     a verb's options, with examples\n"
    "  magicpig-pipe --version\n"
    "\n"
    "Results go to stdout, progress and messages to stderr.\n"
    "Exit status: 0 done, 1 a run or record failed, 2 wrong options, 130 interrupted.\n";

const char mp_help_generate[] =
    "magicpig-pipe [generate]: answer every prompt of a file\n"
    "\n"
    "  --config FILE    configuration (JSON); the flags below override it\n"
    "  --input FILE     prompts: a JSON object, an array or JSON lines with \"input\" (or\n"
    "                   \"input_ids\"); - reads stdin\n"
    "  --prompt TEXT    one prompt instead of --input\n"
    "  --output FILE    one JSON line a finished request\n"
    "  --resume         continue --output: skip what it already holds\n"
    "  --quiet          nothing on stderr but warnings and errors\n"
    "\n"
    "Examples:\n"
    "  magicpig-pipe --config configs/magicpig_config.json --input configs/data32k.json\n"
    "  magicpig-pipe --config my.json --input many.jsonl --output answers.jsonl --batch 4\n"
    "  magicpig-pipe --model DIR --prompt 'Once upon a time' --lsh-k 0 --gen-len 50\n";

const char mp_help_logits[] =
    "magicpig-pipe logits: logits of every position, with full attention\n"
    "\n"
    "  --config FILE    configuration (JSON), or just --model\n"
    "  --tokens FILE    a JSON array of token ids\n"
    "  --output FILE    safetensors file to write: float32 tensor logits [T, V]\n"
    "\n"
    "Example:\n"
    "  magicpig-pipe logits --model models/demo --tokens ids.json --output logits.safetensors\n";

const char mp_help_tokenize[] =
    "magicpig-pipe tokenize: text to token ids, one JSON array a line\n"
    "\n"
    "  --json FILE      a JSON array of strings; without it stdin is one text\n"
    "  --no-special     without the tokens that the post-processor adds (BOS)\n"
    "\n"
    "Examples:\n"
    "  echo -n 'Hello world' | magicpig-pipe tokenize --model models/demo\n"
    "  magicpig-pipe tokenize --model models/demo --json texts.json --no-special\n";

const char mp_help_detokenize[] =
    "magicpig-pipe detokenize: token ids to text, one JSON string a line\n"
    "\n"
    "  --json FILE      a JSON array of arrays of ids\n"
    "\n"
    "Example:\n"
    "  magicpig-pipe detokenize --model models/demo --json ids.json\n";

const char mp_help_plan[] =
    "magicpig-pipe plan: the memory a run would take, without loading anything\n"
    "\n"
    "  --config FILE    configuration (JSON); the flags below override it\n"
    "  --context N      prompt tokens of each request\n"
    "  --input FILE     or: the longest prompt of this file\n"
    "\n"
    "Example:\n"
    "  magicpig-pipe plan --config configs/magicpig_config.json --context 60000 --batch 4\n";
