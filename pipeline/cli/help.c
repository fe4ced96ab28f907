/* The help texts. */
#include "pipeline/cli/help.h"

const char mp_help_overview[] =
    "magicpig-pipe: text from very long prompts, with LSH-sampled attention on StarPU\n"
    "\n"
    "  magicpig-pipe [generate] --config FILE --input FILE   answer the prompts of a file\n"
    "  magicpig-pipe plan       --config FILE --context N    memory a run would take\n"
    "  magicpig-pipe logits     --model DIR --tokens FILE --output FILE\n"
    "                                                        full-attention logits\n"
    "  magicpig-pipe tokenize   --model DIR [--json FILE]    text to token ids\n"
    "  magicpig-pipe detokenize --model DIR --json FILE      token ids to text\n"
    "  magicpig-pipe bench decode|prefill|ops --context N    times, and their bounds\n"
    "  magicpig-pipe tune --config FILE --context N --output FILE\n"
    "                                                        the settings that decode fastest\n"
    "  magicpig-pipe make-data  --model DIR --task NAME --tokens N --output FILE\n"
    "                                                        prompts of a benchmark, with answers\n"
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
    "  --shape NAME     instead of a model, the shape of a well-known one\n"
    "  --layers N       with that many layers\n"
    "\n"
    "Examples:\n"
    "  magicpig-pipe plan --config configs/magicpig_config.json --context 60000 --batch 4\n"
    "  magicpig-pipe plan --shape NAME --context 98000\n";

#define BENCH_OPTIONS                                                                              \
    "  --context N      prompt tokens of each request\n"                                           \
    "  --shape NAME     a well-known model's shape, with random weights\n"                         \
    "  --layers N       with that many layers\n"                                                   \
    "  --model DIR      or: a model\n"

#define BENCH_JSON "  --json           the results as JSON\n"

/* What the columns of the table of ops are. */
#define BENCH_TABLE                                                                                \
    "In the table of ops, of time is an op's share of a step or prompt, and of read its GB/s\n"    \
    "over those at which the device reads its memory: above 1 where an op reads caches.\n"

const char mp_help_bench_decode[] =
    "magicpig-pipe bench decode: time of a decode step, op by op, and how the devices overlap\n"
    "\n" BENCH_OPTIONS
    "  --sampled X      share of the offloaded tokens to sample, with --shape (0.02)\n"
    "  --kv KIND        synthetic: random keys and values (default); prompt: read a prompt\n"
    "  --steps N        steps to time (32)\n"
    "  --warmup N       steps before them (8)\n"
    "  --compare        KV and tables in CPU memory, on the GPU, and full attention\n" BENCH_JSON
    "  --config FILE    configuration (JSON); the flags below override it\n"
    "\n" BENCH_TABLE "\n"
    "Example:\n"
    "  magicpig-pipe bench decode --shape NAME --context 98000 --sampled 0.02\n";

const char mp_help_bench_prefill[] =
    "magicpig-pipe bench prefill: time to read a prompt and to build its tables, op by op\n"
    "\n" BENCH_OPTIONS "  --steps N        prompts to time (1)\n"
    "  --warmup N       prompts before them (0)\n" BENCH_JSON
    "  --config FILE    configuration (JSON); the flags below override it\n"
    "\n" BENCH_TABLE "\n"
    "Example:\n"
    "  magicpig-pipe bench prefill --model models/demo --context 32000\n";

const char mp_help_bench_ops[] =
    "magicpig-pipe bench ops: time of each op alone, for every device and kernel variant\n"
    "\n" BENCH_OPTIONS
    "  --sampled X      share of the offloaded tokens to sample, with --shape (0.02)\n"
    "  --steps N        prompts, and decode steps, to time (1, 32)\n"
    "  --warmup N       of each before them (0, 8)\n" BENCH_JSON
    "  --config FILE    configuration (JSON); the flags below override it\n"
    "\n"
    "With --shape and no --layers two layers are enough: one attends to all, one samples.\n"
    "\n" BENCH_TABLE "\n"
    "Example:\n"
    "  magicpig-pipe bench ops --model models/demo --context 8000 --batch 2\n";

const char mp_help_tune[] =
    "magicpig-pipe tune: measure which settings decode fastest here, and write them down\n"
    "\n"
    "Tries, one after the other, the layers with KV and tables on the GPU, micro-batches,\n"
    "threads, CPU workers and StarPU's schedulers; what counts is the time of a decode step.\n"
    "With --batch 2 or more, then the share of the time for new prompts (--prefill-share):\n"
    "one request reads a prompt of the context's length, but one chunk at most, while the\n"
    "others decode. What counts there is the time to its first token times the others' step\n"
    "meanwhile: a larger share is better as long as it shortens the one by a larger factor\n"
    "than it lengthens the other.\n"
    "\n"
    "A setting is kept if it was better in every one of three runs in turns with the one\n"
    "before, by 2 % in the median.\n"
    "\n" BENCH_OPTIONS
    "  --sampled X      share of the offloaded tokens to sample, with --shape (0.02)\n"
    "  --steps N        steps to time (32)\n"
    "  --config FILE    configuration (JSON) to start from; the flags below override it\n"
    "  --output FILE    the configuration found: the best so far at any time\n"
    "  --resume         go on with an interrupted search: FILE.state has its measurements\n"
    "\n"
    "Example:\n"
    "  magicpig-pipe tune --config my.json --context 98000 --batch 4 --output tuned.json\n";

const char mp_help_make_data[] =
    "magicpig-pipe make-data: prompts of RULER's tasks, of a length in tokens, with their answers\n"
    "\n"
    "  --task NAMES     with commas, or all:\n"
    "                     niah_single_1|2|3, niah_multikey_1|2|3, niah_multivalue,\n"
    "                     niah_multiquery   what a text says of given keys\n"
    "                     vt                variables that get their value from one another\n"
    "                     cwe, fwe          the most common words\n"
    "                     qa_1, qa_2        questions about documents\n"
    "  --tokens N       of a prompt without BOS and of its answer: N at most, at most 2 % below\n"
    "  --samples N      of each task (100)\n"
    "  --seed N         of what is drawn (0): the same seed gives the same file\n"
    "  --output FILE    JSON lines that generate reads; what it held is replaced\n"
    "  --template NAME  what stands around a prompt (none)\n"
    "  --essay FILE     a text to hide things in, instead of the program's\n"
    "  --words FILE     one word a line, for cwe; after lines [adjectives] and [nouns] for keys\n"
    "  --squad FILE     documents and questions of qa_1: JSON as of SQuAD 2.0\n"
    "  --hotpot FILE    those of qa_2: JSON as of HotpotQA\n"
    "\n"
    "Examples:\n"
    "  magicpig-pipe make-data --model models/demo --task niah_single_2,vt --tokens 16384 \\\n"
    "      --samples 20 --template NAME --output ruler.jsonl\n"
    "  magicpig-pipe make-data --model DIR --task all --tokens 98304 --squad dev-v2.0.json \\\n"
    "      --hotpot hotpot_dev_distractor_v1.json --output ruler.jsonl\n";
