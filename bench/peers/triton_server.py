"""Triton through nvidia-pytriton: its dynamic batcher, equal parameters grouped inside a batch."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers.flags import arguments
from bench.peers.grouped import GroupedPipeline


def main() -> None:
    flags = arguments()
    model = GroupedPipeline(flags.model, flags.threads)

    @batch
    def make(asked: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        images = model.run([json.loads(one) for one in asked[:, 0]])
        return {"png": np.array(images, dtype=object)[:, None]}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=flags.port,
        allow_grpc=False,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="pictures",
            infer_func=make,
            inputs=[Tensor(name="asked", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="png", dtype=bytes, shape=(1,))],
            config=ModelConfig(
                max_batch_size=flags.max_images,
                batcher=DynamicBatcher(max_queue_delay_microseconds=int(flags.max_delay_s * 1e6)),
            ),
        )
        triton.serve()


def with_own_libpython() -> None:
    """Its stub must find the libpython of this interpreter, not another one of the system's."""
    folder = sysconfig.get_config_var("LIBDIR")
    if os.environ.get("LD_LIBRARY_PATH") != folder:
        environment = os.environ | {"LD_LIBRARY_PATH": folder}
        os.execve(sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]], environment)


if __name__ == "__main__":
    with_own_libpython()
    main()
