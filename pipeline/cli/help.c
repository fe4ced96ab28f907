/* The help texts. */
#include "pipeline/cli/help.h"

const char mp_help_overview[] =
    "magicpig-pipe: text from very long prompts, with LSH-sampled attention on StarPU\n"
    "\n"
    "  magicpig-pipe [generate] --config FILE --input FILE   answer the prompts of a file\n"
    "  magicpig-pipe plan       --config FILE --context N    memory a run would take, and time\n"
    "  magicpig-pipe logits     --model DIR --tokens FILE --output FILE\n"
    "                                                        full-attention logits\n"
    "  magicpig-pipe tokenize   --model DIR [--json FILE]    text to token ids\n"
    "  magicpig-pipe detokenize --model DIR --json FILE      token ids to text\n"
    "  magicpig-pipe bench decode|prefill|ops --context N    times, and their bounds\n"
    "  magicpig-pipe tune --config FILE --context N --output FILE\n"
    "                                                        the settings that decode fastest\n"
    "  magicpig-pipe serve --config FILE                     an HTTP API as OpenAI's\n"
    "  magicpig-pipe make-data  --model DIR --task NAME --tokens N --output FILE\n"
    "                                                        prompts of a benchmark, with answers\n"
    "  magicpig-pipe eval --config FILE --input FILE --setting WORDS ...\n"
    "                                                        accuracy of attention, and its cost\n"
    "  magicpig-pipe eval attention --config FILE --input FILE --setting WORDS ...\n"
    "                                                        its error, by layer and head\n"
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
    "                   \"input_ids\", or a conversation in \"messages\"); - reads stdin.\n"
    "                   Or lines of OpenAI's batches, whose answers have that form, too\n"
    "  --prompt TEXT    one prompt instead of --input\n"
    "  --chat           \"input\" and TEXT are messages of a user, for the model's chat template\n"
    "  --parse-special  special tokens are found in what a conversation says, too\n"
    "  --no-parse-special  special tokens in texts are text, as they are in conversations\n"
    "  --output FILE    one JSON line a finished request; -: on stdout, instead of texts\n"
    "  --resume         continue --output: skip what it already holds of the same prompts,\n"
    "                   answered with the same settings\n"
    "  --quiet          nothing on stderr but warnings and errors\n"
    "\n"
    "mpirun -n N runs it as N ranks, on one machine or several, in a program built with MPI: each\n"
    "keeps and attends to its share of the KV heads.\n"
    "\n"
    "Examples:\n"
    "  magicpig-pipe --config configs/magicpig_config.json --input configs/data32k.json\n"
    "  magicpig-pipe --config my.json --input many.jsonl --output answers.jsonl --batch 4\n"
    "  magicpig-pipe --model DIR --prompt 'Once upon a time' --lsh-k 0 --gen-len 50\n"
    "  magicpig-pipe --model DIR --chat --prompt 'What is a pipe?' --lsh-k 0 --gen-len 200\n";

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
    "  --input FILE     prompts as generate reads them, and conversations; null: cannot run\n"
    "  --no-special     without the tokens that the post-processor adds (BOS)\n"
    "  --chat           texts are messages of a user, for the model's chat template\n"
    "  --parse-special  special tokens are found in what a conversation says, too\n"
    "  --no-parse-special  special tokens in texts are text, as they are in conversations\n"
    "\n"
    "Examples:\n"
    "  echo -n 'Hello world' | magicpig-pipe tokenize --model models/demo\n"
    "  magicpig-pipe tokenize --model models/demo --json texts.json --no-special\n"
    "  magicpig-pipe tokenize --model models/demo --input chats.jsonl\n";

const char mp_help_detokenize[] =
    "magicpig-pipe detokenize: token ids to text, one JSON string a line\n"
    "\n"
    "  --json FILE      a JSON array of arrays of ids\n"
    "\n"
    "Example:\n"
    "  magicpig-pipe detokenize --model models/demo --json ids.json\n";

const char mp_help_plan[] =
    "magicpig-pipe plan: the memory a run would take, without loading anything; and the time of\n"
    "its steps\n"
    "\n"
    "  --config FILE    configuration (JSON); the flags below override it\n"
    "  --context N      prompt tokens of each request\n"
    "  --input FILE     or: the longest prompt of this file; --chat, --parse-special and\n"
    "                   --no-parse-special as generate has them\n"
    "  --shape NAME     instead of a model, the shape of a well-known one\n"
    "  --layers N       with that many layers\n"
    "  --ranks N        of one of so many ranks, the one with the most KV heads; and what a step\n"
    "                   sends to the others\n"
    "  --network SPEED,LATENCY  between them: how long that takes\n"
    "  --rates FILE     how long a decode step takes, part by part, where ops are as fast as\n"
    "                   bench decode --json has measured them, with the same attention and batch;\n"
    "                   of several ranks FILE tells what messages take, too\n"
    "  --json           results as JSON\n"
    "\n"
    "Examples:\n"
    "  magicpig-pipe plan --config configs/magicpig_config.json --context 60000 --batch 4\n"
    "  magicpig-pipe plan --shape NAME --context 98000\n"
    "  magicpig-pipe plan --shape NAME --context 1000000 --ranks 8 --network 25Gbit,10us \\\n"
    "      --rates rates.json\n";

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
    "  --compare        the method with KV in CPU memory and on the GPU, the default one\n"
    "                   beside another, and full attention\n" BENCH_JSON
    "  --config FILE    configuration (JSON); the flags below override it\n"
    "\n" BENCH_TABLE "\n"
    "Example:\n"
    "  magicpig-pipe bench decode --shape NAME --context 98000 --sampled 0.02\n";

const char mp_help_bench_prefill[] =
    "magicpig-pipe bench prefill: time to read a prompt and to build its tables, op by op\n"
    "\n" BENCH_OPTIONS "  --steps N        prompts to time (1)\n"
    "  --warmup N       prompts before them (0)\n"
    "  --question N     time the last N tokens: a prompt with the others has been read, and\n"
    "                   is known from memory, or with --prefix-cache 1 from --kv-dir\n" BENCH_JSON
    "  --config FILE    configuration (JSON); the flags below override it\n"
    "\n" BENCH_TABLE "\n"
    "Examples:\n"
    "  magicpig-pipe bench prefill --model models/demo --context 32000\n"
    "  magicpig-pipe bench prefill --model models/demo --context 32000 --question 64\n";

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

const char mp_help_serve[] =
    "magicpig-pipe serve: completions and chats over HTTP, for clients of OpenAI's API\n"
    "\n"
    "  --config FILE    configuration (JSON); the flags below override it\n"
    "  --host ADDRESS   where to listen (127.0.0.1: this machine alone)\n"
    "  --port N         (8080; 0: any free one, which is logged)\n"
    "  --api-key-file FILE\n"
    "                   one key a line: clients must send one of them\n"
    "  --served-name NAME\n"
    "                   the model's name in the API (as --model has it)\n"
    "  --template NAME  what stands around the one message of a chat, instead of the model's\n"
    "                   chat template\n"
    "  --context N      tokens of a request at most, prompt and answer together (as many as\n"
    "                   the model has and fit the memory, --batch times)\n"
    "  --max-queue N    requests that wait while --batch others run; more are told to come\n"
    "                   again later, with status 429 (256)\n"
    "  --max-body N     bytes of a request at most (8 MiB, and 16 for a token of the context)\n"
    "  --request-seconds N\n"
    "                   a request that has not ended after so long is ended (never)\n"
    "  --drain-seconds N\n"
    "                   after SIGTERM, for what runs to end (30)\n"
    "\n"
    "POST /v1/completions, /v1/chat/completions, /tokenize, /detokenize; GET /v1/models,\n"
    "/tokenizer_info, /health, /metrics (for Prometheus), and / with a page to look at.\n"
    "--gen-len is how many generated tokens of each request memory is planned for.\n"
    "\n"
    "Examples:\n"
    "  magicpig-pipe serve --model models/demo --batch 8\n"
    "  magicpig-pipe serve --config my.json --host 0.0.0.0 --api-key-file keys.txt\n"
    "  curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": \"Once\", \"max_tokens\": 20}'\n";

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

#define EVAL_PROMPTS                                                                               \
    "  --config FILE    configuration (JSON); the flags below override it\n"                       \
    "  --input FILE     prompts with answers: records with \"input\" and \"outputs\", as "         \
    "make-data\n"                                                                                  \
    "                   or RULER writes them; \"task\" says which task (--task: of those that "    \
    "do\n"                                                                                         \
    "                   not say)\n"                                                                \
    "  --task NAMES     or samples of these tasks, made as make-data makes them,\n"                \
    "  --tokens N,N...  at each of these lengths; --samples N (100) of each; --data-seed N;\n"     \
    "                   --template, --essay, --words, --squad, --hotpot: see make-data\n"

#define EVAL_SETTINGS                                                                              \
    "  --setting WORDS  attention to measure, over that of the configuration: words with blanks\n" \
    "                   between them, each a configuration FILE.json, of which the attention\n"    \
    "                   counts (with cache_layers, device_budget, window_size), or flag=value\n"   \
    "                   for what --flag value says below. Give it several times to compare;\n"     \
    "                   without it: full attention, and the configuration's own\n"                 \
    "  --sparse-from X  answer: prompts are read exactly, the answer goes through the method\n"    \
    "                   (the default, as the original measures); question: everything from the\n"  \
    "                   question on does. It starts at the last place of the record's "            \
    "\"question\",\n"                                                                              \
    "                   or of the phrases with which RULER's tasks ask\n"

const char mp_help_eval[] =
    "magicpig-pipe eval: how right the answers are with several attentions, and what those cost\n"
    "\n"
    "Each prompt is read once, and answered with one setting after the other. Scores are RULER's:\n"
    "the share of the expected texts that the answer contains; in tasks qa... one is enough.\n"
    "\n" EVAL_PROMPTS EVAL_SETTINGS
    "  --output FILE    one JSON line an answer; those that it holds already are not asked again,\n"
    "                   so that the same command goes on where it was interrupted\n"
    "  --csv FILE       scores and costs by setting, length and task\n"
    "  --html FILE      the same as a page with charts\n"
    "  --quiet          nothing on stderr but warnings and errors\n"
    "  --compare A B    nothing of all this: which answers of one --output are better than those "
    "of\n"
    "                   another, with a sign test\n"
    "\n"
    "Examples:\n"
    "  magicpig-pipe eval --model models/demo --task niah_single_1,vt --tokens 8192,32768 \\\n"
    "      --samples 20 --batch 8 --output answers.jsonl --html scores.html \\\n"
    "      --setting attention=full --setting 'lsh-k=10 lsh-l=150' \\\n"
    "      --setting 'attention=quest attention-budget=0.05'\n"
    "  magicpig-pipe eval --model DIR --input ruler.jsonl --sparse-from question \\\n"
    "      --setting configs/original/method1_K16_L64.json\n"
    "  magicpig-pipe eval --compare before.jsonl after.jsonl\n";

const char mp_help_eval_attention[] =
    "magicpig-pipe eval attention: how far attention is from exact attention, by layer and head\n"
    "\n"
    "Each prompt is read once, to the end of its expected answer. The answer's tokens (or those\n"
    "from the question on) then go through each setting, every layer with the input that exact\n"
    "attention gives it; the error is that of a head's output, relative to its norm.\n"
    "\n" EVAL_PROMPTS EVAL_SETTINGS "  --steps N        tokens of a prompt, at most (32)\n"
    "  --csv FILE       the error of each head\n"
    "  --html FILE      heat maps\n"
    "  --quiet          nothing on stderr but warnings and errors\n"
    "\n"
    "Example:\n"
    "  magicpig-pipe eval attention --model models/demo --task vt --tokens 16384 --samples 4 \\\n"
    "      --setting 'lsh-k=10 lsh-l=150' --setting 'attention=topk attention-budget=0.02'\n";
