"""What `--help` says below the options: examples, and what they need to be understood. Text alone."""

ALL = """\
examples:
  sandbox-service serve                          everything on this machine, at http://127.0.0.1:8000
  sandbox-service run hello.py                   run one file, print its Result
  echo 'print(6 * 7)' | sandbox-service run -    the same from standard input
  sandbox-service rootfs build --name ml --requirements ml.txt
                                                 an image with your packages: calls name it with "image": "ml"
  sandbox-service mcp                            the service as a tool of language models (MCP)
  sandbox-service doctor                         what this machine supports, and what to do about the rest
  sandbox-service config                         every setting, its variable, its value and what it means

On several machines: one Redis, any number of `gateway` and `worker`, all with the same SANDBOX_REDIS_URL.
"""
EVAL = """\
The defaults are the protocol of rStar2-Agent. Intervals are 95 %, over questions. A sample that was lost to a fault of
the service or the endpoint is counted and is in no figure; the exit code is then 1.

examples:
  sandbox-service eval --data aime24.jsonl --endpoint http://127.0.0.1:8100/v1 --model rstar2
  sandbox-service eval --data gpqa_diamond.csv --folder ./model --samples 4 --out samples.jsonl
"""
TRAIN = """\
--sft and --problems stand in for what the recipe makes itself; they take what `train data` writes. An eighth of the
problems, by a hash of the question, is held out for the evaluations. What does not fit the model is left out, and told.

examples:
  sandbox-service train --recipe nano --out runs/demo
  sandbox-service train --recipe rstar2-14b --emit verl --out recipe
  sandbox-service train --recipe rstar2-14b --base Qwen3-0.6B --sft sft.jsonl --problems train.jsonl --out runs/own
"""
DATA = """\
Nothing is downloaded: FILE is a .jsonl, .json or .parquet of the data set as it is published (parquet needs pyarrow).

sources for SFT, written as {"messages": [{"role", "content"}, ...], "source"}; calls become
<tool_call>{"name": ..., "arguments": {...}}</tool_call>, tools stand in the system message:
  toolace      system, conversations; calls written [Name(key="value")]
  apigen-mt    tools, system, conversations of human, gpt, function_call, observation
  glaive       system, chat (function-calling v2)
  magicoder    problem, solution, lang or instruction, response: one Python program becomes a call of our tool
  tulu3        messages; of the whole mixture, instruction following only
  nemotron     input, output, category, reasoning: chat without reasoning

sources for RL, written as verl's {"prompt", "reward_model": {"ground_truth"}, ...}; answers must be integers of at
most 100 digits:
  dapo               verl's form (instructions around the question are cut off), or prompt, solution
  openmathreasoning  problem, expected_answer, problem_type, problem_source: AoPS problems with a stated answer
  project-euler      problem (or question), answer
  verl               what this command wrote, to filter it further

Duplicates are left out; so is, with --decontaminate, what shares 8 words in a row with a question of an evaluation
set. Which rows were dropped and why is printed as JSON. A row that is not of its source ends the command (exit 2).
The paper has some of the texts rewritten by a language model; that is not done.

examples: the RL data of rStar2-Agent
  sandbox-service train data openmathreasoning cot.jsonl --out aops.jsonl --decontaminate aime24.jsonl aime25.jsonl
  sandbox-service eval --data aops.jsonl --endpoint http://127.0.0.1:8100/v1 --model qwen3-32b --out samples.jsonl
  sandbox-service train data verl aops.jsonl --samples samples.jsonl --out train.jsonl
"""
RUN = """\
If nothing answers at the URL, and it is one of this machine, a service is started for this one call.

exit codes:
  0    the code ended with status `ok`; the Result is on standard output
  1    it ended with another status (see the Result), or the service could not answer (then there is no Result)
  2    the command line, a file or this machine cannot do it
  130  interrupted

examples:
  sandbox-service run prog.py --stdin input.txt --wall-s 2
  sandbox-service run - --image ml --memory-mb 2048 <prog.py
  sandbox-service run prog.py --url http://sandbox.internal:8000 --api-key-file key
"""
MCP = """\
The tool is `execute_python_code_with_standard_io` (code, input). Without --http it speaks over standard input and
output, for programs that start their servers themselves:

  {"mcpServers": {"sandbox": {"command": "sandbox-service", "args": ["mcp", "--url", "http://127.0.0.1:8000"]}}}

With --http 8765 it is at http://127.0.0.1:8765/mcp (streamable HTTP). The service itself has to run: it is asked at
--url, and may be on another machine.
"""
LETTERS = """\
A call whose worker is lost (killed, or cut off from Redis) runs once more; if it loses that one too, it ends as
infra_error and leaves a dead letter, of which the last 1,000 are kept. Such a call may be what kills the workers:
look at it before you replay it. A replay is a new call of the same tenant, with the label replay_of; the first one's
Result stays what it is. Without SANDBOX_REDIS_URL, the service of `sandbox-service serve` on this machine is asked.

examples:
  sandbox-service dead-letters list
  sandbox-service dead-letters show 1790000000000-0
  sandbox-service dead-letters replay 1790000000000-0
"""
BUILD = """\
How to add your packages: write a pip requirements file, build an image of that name, name it in the call.

  sandbox-service rootfs build --name ml --requirements ml.txt
  curl ... -d '{"code": "import torch", "image": "ml"}'

The packages come on top of the default ones (numpy, scipy, sympy, pandas, ...), whose versions stay as they are;
with --bare the file stands alone. Only wheels are installed. Workers see a new image when they start.
"""

PLAN = """\
The paper's step, 45,000 calls, all at once and spread over five minutes:

  sandbox-service plan --rollouts 16384 --calls 2.75
  sandbox-service plan --rollouts 16384 --calls 2.75 --over-s 300

The costs of a call come from a load report; everything else is predicted.
"""
