// The current request as code for other programs.

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The request with a word in place of the bytes of its files. */
function shortened(request) {
  const short = structuredClone(request);
  for (const field of ["image", "mask"]) if (short[field]) short[field].content = `<${field} in base64>`;
  if (short.referenceImages) short.referenceImages = short.referenceImages.map((_, at) => ({ content: `<image ${at + 1} in base64>` }));
  return short;
}

/** A value of JSON as Python writes it. */
function python(value, indent = "") {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const lines = Object.entries(value).map(([name, each]) => `${inner}${JSON.stringify(name)}: ${python(each, inner)},\n`);
  return `{\n${lines.join("")}${indent}}`;
}

const SHELL_KEY = `  -H "authorization: Bearer $DARKROOM_API_KEY" \\\n`;

export const LANGUAGES = {
  cURL: ({ method, request, needsKey }) =>
    `curl -N ${location.origin}/darkroom/v1/${method} \\\n  -H 'content-type: application/json' \\\n${needsKey ? SHELL_KEY : ""}  -d ${quoted(JSON.stringify(request))}`,
  Python: ({ method, request, needsKey }) => `import base64
import json
${needsKey ? "import os\n" : ""}import urllib.request

body = ${python(request)}
call = urllib.request.Request(
    "${location.origin}/darkroom/v1/${method}",
    data=json.dumps(body).encode(),
    headers={"content-type": "application/json"${needsKey ? `, "authorization": "Bearer " + os.environ["DARKROOM_API_KEY"]` : ""}},
)
with urllib.request.urlopen(call) as events:
    for line in events:
        if not line.startswith(b"data: "):
            continue
        image = json.loads(line[6:]).get("image")
        if image:
            name = f"image-{image['imageIndex']}.{image['mediaType'].split('/')[1]}"
            with open(name, "wb") as file:
                file.write(base64.b64decode(image["content"]))`,
  JavaScript: ({ method, request, needsKey }) => `const response = await fetch("${location.origin}/darkroom/v1/${method}", {
  method: "POST",
  headers: { "content-type": "application/json"${needsKey ? ", authorization: `Bearer ${process.env.DARKROOM_API_KEY}`" : ""} },
  body: JSON.stringify(${JSON.stringify(request, null, 2).replaceAll("\n", "\n  ")}),
});
const images = [];
for (const line of (await response.text()).split("\\n")) {
  if (!line.startsWith("data: ")) continue;
  const { image } = JSON.parse(line.slice(6));
  if (image) images.push(\`data:\${image.mediaType};base64,\${image.content}\`);
}
console.log(images);`,
  grpcurl: ({ rpc, request, grpcPort, needsKey }) =>
    `grpcurl ${location.protocol === "http:" ? "-plaintext " : ""}\\\n${needsKey ? SHELL_KEY : ""}  -d ${quoted(JSON.stringify(request))} \\\n  ${location.hostname}:${grpcPort} darkroom.v1.ImageService/${rpc}`,
};

/** The snippet in a language of `LANGUAGES`; files are left out of it, and so is the key. */
export function snippet(language, task, request, server) {
  return LANGUAGES[language]({ ...task, ...server, request: shortened(request) });
}

/** Puts the text on the clipboard, also where the page is not trusted with it; false if neither works. */
export async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    // Pages over plain HTTP from another machine have no clipboard of their own.
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}
