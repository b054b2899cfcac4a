"""Imports all generated code and sends one message through it, under whichever protobuf is there.

Run as a program with warnings as errors: `python -W error tests/contract/use_generated_code.py`.
"""

from __future__ import annotations

import google.protobuf

from darkroom.v1 import (
    image_pb2,
    image_service_pb2,
    image_service_pb2_grpc,
    model_config_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
)


def main() -> None:
    request = image_service_pb2.GenerateRequest(
        prompt="a red circle",
        seed=0,
        output=image_pb2.OutputOptions(format=image_pb2.OUTPUT_FORMAT_PNG),
    )
    same = image_service_pb2.GenerateRequest.FromString(request.SerializeToString())
    assert same == request
    assert same.HasField("seed")
    assert model_config_pb2.ModelConfig.DESCRIPTOR.file.package == "darkroom.v1"
    assert model_service_pb2.DESCRIPTOR.services_by_name.keys() == ["ModelService"]
    assert issubclass(image_service_pb2_grpc.ImageServiceServicer, object)
    assert issubclass(model_service_pb2_grpc.ModelServiceServicer, object)
    print(f"the generated code works under protobuf {google.protobuf.__version__}")


if __name__ == "__main__":
    main()
