"""Run by the tests with `together`'s own environment: python together_images.py ADDRESS MODEL."""

import base64
import sys

from together import Together

address, model = sys.argv[1:]
client = Together(base_url=address, api_key="x")
made = client.images.generate(
    prompt="x", model=model, width=64, height=64, steps=3, seed=5, n=1, response_format="base64"
)
assert made.object == "list", made
assert made.model == model, made
assert base64.b64decode(made.data[0].b64_json).startswith(b"\x89PNG")
status = None
try:
    client.images.generate(prompt="x", model="nobody", response_format="base64")
except Exception as error:
    status = getattr(error, "status_code", None)
assert status == 404, status
