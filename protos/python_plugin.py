"""A plugin of buf for Python: the generator of `*_pb2_grpc.py` is inside grpcio-tools only."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from grpc_tools import protoc


def main() -> None:
    """Reads a request from standard input and writes the response, as buf asks of plugins."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    for file in request.proto_file:
        leave_out_usual_json_names(file.message_type)
    response = CodeGeneratorResponse(
        supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files.binpb"
        files.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        made = Path(folder) / "made"
        made.mkdir()
        command = ["protoc", f"--descriptor_set_in={files}"]
        command += [f"--python_out={made}", f"--grpc_python_out={made}"]
        if protoc.main([*command, *request.file_to_generate]) != 0:
            sys.exit("protoc could not generate the Python code")
        for made_file in sorted(made.rglob("*.py")):
            name = made_file.relative_to(made).as_posix()
            response.file.add(name=name, content=made_file.read_text())
    sys.stdout.buffer.write(response.SerializeToString())


def leave_out_usual_json_names(messages: Iterable[DescriptorProto]) -> None:
    """Clears what buf fills in and protoc leaves out: the generated code is then protoc's own."""
    for message in messages:
        leave_out_usual_json_names(message.nested_type)
        for field in (*message.field, *message.extension):
            first, *others = field.name.split("_")
            if field.json_name == first + "".join(word.capitalize() for word in others):
                field.ClearField("json_name")


if __name__ == "__main__":
    main()
