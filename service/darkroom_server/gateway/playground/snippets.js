// The current request as code for other programs.

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The request with a word in place of the bytes of its files. */
function shortened(request) {
  const short = structuredClone(request);
  for (const field of ["image", "mask"]) if (short[field]) short[field].content = `<${field} in base64>`;
  return short;
}

export const LANGUAGES = {
  cURL: ({ method, request }) =>
    `curl -N ${location.origin}/darkroom/v1/${method} \\\n  -H 'content-type: application/json' \\\n  -d ${quoted(JSON.stringify(request))}`,
  Python: ({ method, request }) => `import base64, json, urllib.request

body = json.loads(${python(JSON.stringify(request))})
call = urllib.request.Request(
    "${location.origin}/darkroom/v1/${method}",
    data=json.dumps(body).encode(),
    headers={"content-type": "application/json"},
)
with urllib.request.urlopen(call) as response:
    for line in response:
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if "image" in event:
                name = f"image-{event['image']['imageIndex']}"
                open(name, "wb").write(base64.b64decode(event["image"]["content"]))`,
  JavaScript: ({ method, request }) => `const response = await fetch("${location.origin}/darkroom/v1/${method}", {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(${JSON.stringify(request, null, 2).replaceAll("\n", "\n  ")}),
});
const images = [];
for (const line of (await response.text()).split("\\n")) {
  if (!line.startsWith("data: ")) continue;
  const event = JSON.parse(line.slice(6));
  if (event.image) images.push(\`data:\${event.image.mediaType};base64,\${event.image.content}\`);
}`,
  grpcurl: ({ rpc, request, grpcPort }) =>
    `grpcurl -plaintext \\\n  -d ${quoted(JSON.stringify(request))} \\\n  ${location.hostname}:${grpcPort} darkroom.v1.ImageService/${rpc}`,
};

const python = (text) => JSON.stringify(text);

/** The snippet in a language of `LANGUAGES`; files are left out of it. */
export function snippet(language, task, request, grpcPort) {
  return LANGUAGES[language]({ ...task, request: shortened(request), grpcPort });
}
