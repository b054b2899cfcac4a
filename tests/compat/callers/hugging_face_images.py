"""Run by the tests with an environment of `huggingface_hub`: ADDRESS MODEL FILL_MODEL."""

import base64
import io
import sys

from huggingface_hub import InferenceClient
from PIL import Image


def grey(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64), shade).save(buffer, "PNG")
    return buffer.getvalue()


address, model, fill = sys.argv[1:]
client = InferenceClient(model=f"{address}/models/{model}", token="x")
asked = {"width": 64, "height": 64, "num_inference_steps": 3, "guidance_scale": 3.5}
made = client.text_to_image("x", **asked)
assert made.size == (64, 64), made
made = client.text_to_image("x", negative_prompt="dog")
assert made.format == "PNG", made

filling = InferenceClient(model=f"{address}/models/{fill}", token="x")
mask = base64.b64encode(grey(0)).decode()
made = filling.image_to_image(grey(90), prompt="x", mask_image=mask, preserve_unmasked=True)
assert made.convert("L").getextrema() == (90, 90), made
text = ""
try:
    filling.image_to_image(grey(90), prompt="x")
except Exception as error:
    text = str(error)
assert "mask" in text, text
