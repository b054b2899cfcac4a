"""Run by an environment with the stock `huggingface_hub`: ADDRESS.

Its provider fal-ai has a fixed address, so what it sends there is sent to ADDRESS by the client
that it is told to use; what it asks the hub is answered as the hub would.
"""

import io
import sys

import httpx2
from huggingface_hub import InferenceClient, set_client_factory
from PIL import Image

address = httpx2.URL(sys.argv[1])
MODEL = "HiDream-ai/HiDream-I1-Full"
CHANGES = "example/changes"
PROVIDED = {
    MODEL: ("fal-ai/hidream-i1-full", "text-to-image"),
    CHANGES: ("fal-ai/sdxl/image-to-image", "image-to-image"),
}
PREFIXES = {"fal.run": b"", "queue.fal.run": b"/queue", "router.huggingface.co": b""}


class Redirected(httpx2.HTTPTransport):
    """Sends what is for fal to the server under test."""

    def handle_request(self, request):
        if request.url.host == "huggingface.co":
            name = request.url.path.removeprefix("/api/models/")
            provider_id, task = PROVIDED[name]
            mapping = {"status": "live", "providerId": provider_id, "task": task}
            shown = {"id": name, "inferenceProviderMapping": {"fal-ai": mapping}}
            return httpx2.Response(200, json=shown)
        if request.url.host in PREFIXES:
            path = PREFIXES[request.url.host] + request.url.raw_path
            request.url = address.copy_with(raw_path=path)
            request.headers["host"] = address.netloc.decode()
        return super().handle_request(request)


def client():
    return httpx2.Client(transport=Redirected(), follow_redirects=True, timeout=300)


set_client_factory(client)
picture = io.BytesIO()
Image.new("L", (64, 64), 90).save(picture, "PNG")
# With a key of fal's own, and by Hugging Face's router.
for key in ("key:secret", "hf_1"):
    fal = InferenceClient(provider="fal-ai", api_key=key)
    asked = {"width": 64, "height": 128, "num_inference_steps": 3, "guidance_scale": 3.5}
    made = fal.text_to_image("a cat", model=MODEL, seed=5, negative_prompt="dog", **asked)
    assert made.size == (64, 128), made
    made = fal.image_to_image(picture.getvalue(), prompt="x", model=CHANGES)
    assert made.size == (64, 64), made
text = ""
try:
    fal.text_to_image("a cat", model=MODEL, num_inference_steps=0)
except Exception as error:
    text = str(error)
assert "num_inference_steps" in text, text
