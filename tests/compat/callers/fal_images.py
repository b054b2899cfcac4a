"""Run by an environment with the stock `fal_client`: URL MODEL SLOW_MODEL.

The environment says where fal is: FAL_RUN_HOST, FAL_QUEUE_RUN_HOST, FAL_KEY.
"""

import base64
import io
import sys

import fal_client
import httpx
from PIL import Image

url, model, slow = sys.argv[1:]
SMALL = {"image_size": {"width": 64, "height": 64}, "num_inference_steps": 3, "seed": 5}


def opened(found):
    """The one image of an answer."""
    [image] = found["images"]
    assert image["url"].startswith(f"{url}/files/"), image
    return Image.open(io.BytesIO(httpx.get(image["url"]).content))


made = fal_client.run(model, arguments={"prompt": "x"} | SMALL)
assert opened(made).size == (64, 64)
assert made["seed"] == 5, made

seen = []
made = fal_client.subscribe(
    slow,
    arguments={"prompt": "x"} | SMALL | {"num_inference_steps": 30},
    with_logs=True,
    on_queue_update=seen.append,
)
assert opened(made).size == (64, 64)
assert isinstance(seen[-1], fal_client.Completed), seen

handle = fal_client.submit(slow, arguments={"prompt": "x", "num_inference_steps": 100})
# By its id alone, as another process would.
again = fal_client.SyncClient().get_handle(slow, handle.request_id)
assert isinstance(again.status(), fal_client.InProgress | fal_client.Queued)
again.cancel()
status = handle.status()
assert isinstance(status, fal_client.Completed), status
assert status.error_type == "cancelled", status

picture = io.BytesIO()
Image.new("L", (64, 64), 90).save(picture, "PNG")
image_url = f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"
given = {"prompt": "x", "image_url": image_url, "strength": 0.5}
assert opened(fal_client.run(f"{model}/image-to-image", arguments=given)).size == (64, 64)

*_, last = fal_client.stream(model, arguments={"prompt": "x"} | SMALL)
assert opened(last).size == (64, 64)

error = None
try:
    fal_client.run(model, arguments={"prompt": "x", "image_size": "huge"})
except fal_client.FalClientHTTPError as raised:
    error = raised
assert error is not None
assert error.status_code == 400, error
assert "image_size" in str(error), error
