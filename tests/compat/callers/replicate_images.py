"""Run by an environment with the stock `replicate` client: URL MODEL SLOW_MODEL."""

import io
import sys
import urllib.request

import replicate
from PIL import Image
from replicate.exceptions import ReplicateError

url, model, slow = sys.argv[1:]
client = replicate.Client(api_token="r8_1", base_url=url)
SMALL = {"width": 64, "height": 64, "num_inference_steps": 3, "seed": 5}


def opened(prediction_output):
    """The one image; addresses over plain HTTP are left to the caller to fetch."""
    [address] = prediction_output
    return Image.open(io.BytesIO(urllib.request.urlopen(str(address)).read()))


assert opened(client.run(model, input={"prompt": "x"} | SMALL)).size == (64, 64)
made = client.predictions.create(version=model, input={"prompt": "x"} | SMALL, wait=True)
made.wait()
assert opened(made.output).size == (64, 64)

prediction = client.models.predictions.create(
    slow, input={"prompt": "x", "num_inference_steps": 100}
)
assert prediction.status == "processing"
prediction.cancel()
prediction.reload()
assert prediction.status == "canceled"

status, detail = None, ""
try:
    client.run(model, input={"prompt": ""})
except ReplicateError as error:
    status, detail = error.status, error.detail
assert status == 400, status
assert "prompt" in detail, detail
