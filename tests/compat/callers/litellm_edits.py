"""Run by the tests with the stock `litellm`: ADDRESS MODEL FILE FILE FILE.

Prints what it made of the three images and the seed that the server chose, which it does not tell.
"""

import contextlib
import json
import sys

import httpx
import litellm
from litellm.llms.custom_httpx.http_handler import HTTPHandler

address, model, *files = sys.argv[1:]
seeds = []
watched = httpx.Client(
    event_hooks={"response": [lambda answer: seeds.append(answer.headers["x-darkroom-seed"])]}
)
with contextlib.ExitStack() as stack:
    made = litellm.image_edit(
        model=f"openai/{model}",
        image=[stack.enter_context(open(file, "rb")) for file in files],
        prompt="put them together",
        size="64x64",
        api_base=f"{address}/v1",
        api_key="x",
        client=HTTPHandler(client=watched),
    )
print(json.dumps([made.data[0].b64_json, seeds[-1]]))
