"""A plugin of buf that writes pages of docs/ from the protos' comments."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

PACKAGE = ".darkroom.v1."
PROTOCOL, CONFIG = "protocol.md", "model-config.md"
HEADERS = {
    PROTOCOL: """# Protocol

Every service, message and enum of `darkroom.v1`, with the comments of the protos. This page is
written by `make reference`. What holds across fields is in [requests](requests.md), statuses are in
[errors](errors.md).
""",
    CONFIG: """# config.pbtxt

Every field of a model's `config.pbtxt`, with the comments of its proto. This page is written by
`make reference`. What a repository looks like, with examples, is in
[the model repository](model-repository.md); what is as in Triton, in
[coming from Triton](from-triton.md).
""",
}

#: Numbers of fields in descriptor.proto, of which the paths of comments are made.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS, NESTED_MESSAGES, NESTED_ENUMS = 2, 3, 4
VALUES = METHODS = 2

Path = tuple[int, ...]

#: The page of each message and enum that is in no other, by its name.
PAGES: dict[str, str] = {}


class Comments:
    """What is written above each element of one file."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._by_path = {
            tuple(location.path): location.leading_comments
            for location in file.source_code_info.location
        }

    def lines(self, path: Path) -> list[str]:
        """The comment of an element, line by line, without what it tells the linter."""
        lines = [line.removeprefix(" ") for line in self._by_path.get(path, "").splitlines()]
        return [line for line in lines if not line.startswith("buf:lint:")]

    def cell(self, path: Path) -> str:
        """The comment in one line of a table."""
        return " ".join(filter(None, self.lines(path))).replace("|", "\\|")


def main() -> None:
    """Reads a request from standard input and writes the response, as buf asks of plugins."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    # Services first, and the messages that all of them use last.
    files = sorted(
        (file for file in request.proto_file if file.name in request.file_to_generate),
        key=lambda file: (not file.service, file.name),
    )
    for file in files:
        for element in (*file.message_type, *file.enum_type):
            PAGES[element.name] = page_of(file)
    response = CodeGeneratorResponse(
        supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    for page, header in HEADERS.items():
        lines = (line for file in files if page_of(file) == page for line in file_section(file))
        content = "\n".join([header, *lines])
        response.file.add(name=page, content=content.rstrip("\n") + "\n")
    sys.stdout.buffer.write(response.SerializeToString())


def page_of(file: FileDescriptorProto) -> str:
    """The page that a file is described on."""
    return CONFIG if file.name.endswith("/model_config.proto") else PROTOCOL


def file_section(file: FileDescriptorProto) -> Iterator[str]:
    """Everything of one file."""
    comments = Comments(file)
    for index, service in enumerate(file.service):
        yield from titled("##", service.name, comments.lines((SERVICES, index)))
        yield "| method | request | response | |"
        yield "| --- | --- | --- | --- |"
        for number, method in enumerate(service.method):
            yield method_row(method, comments.cell((SERVICES, index, METHODS, number)))
        yield ""
    page = page_of(file)
    yield from [f"## Messages of {file.name}", "", f"[{file.name}](../protos/{file.name})", ""]
    for index, message in enumerate(file.message_type):
        yield from message_section(message, message.name, (MESSAGES, index), comments, page)
    for index, enum in enumerate(file.enum_type):
        yield from enum_section(enum, enum.name, (ENUMS, index), comments)


def method_row(method: MethodDescriptorProto, comment: str) -> str:
    """A method as a row of its service's table."""
    streamed = "stream of " if method.server_streaming else ""
    request, response = linked(method.input_type), linked(method.output_type)
    return f"| `{method.name}` | {request} | {streamed}{response} | {comment} |"


def message_section(
    message: DescriptorProto, name: str, path: Path, comments: Comments, page: str
) -> Iterator[str]:
    """A message, then those inside it."""
    if message.options.map_entry:
        return
    yield from titled("###", name, comments.lines(path))
    if message.field:
        yield "| field | type | |"
        yield "| --- | --- | --- |"
        for index, field in enumerate(message.field):
            comment = comments.cell((*path, FIELDS, index))
            yield f"| `{field.name}` | {type_of(field, message, page)} | {comment} |"
        yield ""
    for index, nested in enumerate(message.nested_type):
        nested_path = (*path, NESTED_MESSAGES, index)
        yield from message_section(nested, f"{name}.{nested.name}", nested_path, comments, page)
    for index, enum in enumerate(message.enum_type):
        enum_path = (*path, NESTED_ENUMS, index)
        yield from enum_section(enum, f"{name}.{enum.name}", enum_path, comments)


def enum_section(
    enum: EnumDescriptorProto, name: str, path: Path, comments: Comments
) -> Iterator[str]:
    """An enum with its values."""
    yield from titled("###", name, comments.lines(path))
    yield "| value | number | |"
    yield "| --- | --- | --- |"
    for index, value in enumerate(enum.value):
        yield f"| `{value.name}` | {value.number} | {comments.cell((*path, VALUES, index))} |"
    yield ""


def titled(level: str, name: str, comment: Sequence[str]) -> Iterator[str]:
    """A heading and its comment; what is indented in the comment is set as it is."""
    yield from [f"{level} {name}", ""]
    inside = False
    for line in comment:
        if line.startswith("  ") != inside:
            yield from ["```", ""] if inside else ["", "```"]
            inside = not inside
        yield line.removeprefix("  ")
    yield from ["```", ""] if inside else [""]


def type_of(field: FieldDescriptorProto, message: DescriptorProto, page: str) -> str:
    """A field's type, with what it is repeated, optional or one of."""
    entries = {f"{one.name}": one for one in message.nested_type if one.options.map_entry}
    entry = entries.get(field.type_name.rsplit(".", 1)[-1])
    if entry is not None:
        key, value = (plain_type(each, page) for each in entry.field)
        return f"map from {key} to {value}"
    kind = plain_type(field, page)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    if field.proto3_optional:
        return f"optional {kind}"
    if field.HasField("oneof_index"):
        return f"{kind}, in oneof `{message.oneof_decl[field.oneof_index].name}`"
    return kind


def plain_type(field: FieldDescriptorProto, page: str) -> str:
    """The type of one value."""
    if field.type_name:
        return linked(field.type_name, page)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def linked(type_name: str, page: str = PROTOCOL) -> str:
    """A type's name, leading to where it is; `page` is where it is named."""
    if not type_name.startswith(PACKAGE):
        return f"`{type_name.removeprefix('.')}`"
    name = type_name.removeprefix(PACKAGE)
    target = PAGES[name.partition(".")[0]]
    return f"[{name}]({'' if target == page else target}#{name.replace('.', '').lower()})"


if __name__ == "__main__":
    main()
