"""Text to image by Hugging Face's call: writes the image, whose bytes are the answer."""

import io

import requests
from PIL import Image

API_URL = "http://127.0.0.1:8000/hf-inference/models/black-forest-labs/FLUX.1-dev"
headers = {"Authorization": "Bearer YOUR_KEY"}

response = requests.post(API_URL, headers=headers, json={"inputs": "Astronaut riding a horse"})
image = Image.open(io.BytesIO(response.content))
image.save("astronaut.png")
