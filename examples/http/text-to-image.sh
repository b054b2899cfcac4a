curl -X POST "http://127.0.0.1:8000/api/v1/images/generation" \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer YOUR_KEY" \
  --data-raw '{
    "model": "stabilityai/stable-diffusion-xl-base-1.0",
    "prompt": "a flying cat",
    "num_steps": 25,
    "guidance_scale": 9,
    "negative_prompt": null,
    "width": 1024,
    "height": 1024
  }'
