"""Text to image by the client of Hugging Face; the model belongs in the address."""

from huggingface_hub import InferenceClient

client = InferenceClient(
    model="http://127.0.0.1:8000/models/black-forest-labs/FLUX.1-dev",
    token="YOUR_KEY",
)

image = client.text_to_image("Astronaut riding a horse")
image.save("astronaut.png")
