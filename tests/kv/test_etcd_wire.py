"""The generated messages are those of their source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from discovery.kv import etcd_wire_pb2

ROOT = Path(__file__).parents[2]
SOURCE = "discovery/kv/etcd_wire.proto"


def test_the_generated_messages_are_those_of_the_source(tmp_path: Path) -> None:
    made = tmp_path / "descriptors"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", f"--descriptor_set_out={made}", SOURCE]
    subprocess.run(command, cwd=ROOT, check=True)
    (source,) = FileDescriptorSet.FromString(made.read_bytes()).file
    generated = FileDescriptorProto.FromString(etcd_wire_pb2.DESCRIPTOR.serialized_pb)
    source.ClearField("source_code_info")
    for message in source.message_type:
        for field in message.field:
            field.ClearField("json_name")
    assert generated == source, "write it anew: make proto"
