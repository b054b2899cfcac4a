const url = "http://127.0.0.1:8000/api/v1/images/generation";
const headers = {
  "Content-Type": "application/json",
  "Authorization": "Bearer YOUR_KEY",
};
const data = {
  "model": "stabilityai/stable-diffusion-xl-base-1.0",
  "prompt": "a flying cat",
  "num_steps": 25,
  "guidance_scale": 9,
  "negative_prompt": null,
  "width": 1024,
  "height": 1024
};

fetch(url, { method: "POST", headers, body: JSON.stringify(data) })
  .then((response) => response.json())
  .then((data) => console.log(JSON.stringify(data, null, 2)))
  .catch((error) => console.error("Error:", error));
