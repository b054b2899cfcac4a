"""Text to image by Nebula Block's call: prints the answer, the image in base64."""

import requests

url = "http://127.0.0.1:8000/api/v1/images/generation"
headers = {
    "Content-Type": "application/json",
    "Authorization": "Bearer YOUR_KEY",
}
data = {
    "model": "stabilityai/stable-diffusion-xl-base-1.0",
    "prompt": "a flying cat",
    "num_steps": 25,
    "guidance_scale": 9,
    "negative_prompt": None,
    "width": 1024,
    "height": 1024,
}

response = requests.post(url, headers=headers, json=data)
print(response.json())
