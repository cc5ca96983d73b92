#!/usr/bin/python3
"""Reads the metadata and the messages of vaeanomaly from Python.

GST_PLUGIN_PATH=target/release examples/read_meta.py street.mp4
Debian packages: python3-gi gir1.2-gstreamer-1.0
"""

import pathlib
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402


def print_line(line):
    # One write per line: two threads print, and print() writes the line end separately.
    sys.stdout.write(line + "\n")


def on_buffer(_pad, info):
    meta = info.get_buffer().get_custom_meta("VaeAnomalyMeta")
    if meta:
        found = meta.get_structure()
        print_line(f"frame {found.get_value('frame'):6}  score {found.get_value('score'):.2f}  {found.get_string('label')}")
        _, regions = found.get_array("regions")
        for i in range(regions.n_values):
            region = regions.get_nth(i)
            x, y, width, height = (region.get_value(name) for name in ("x", "y", "width", "height"))
            print_line(
                f"  region {region.get_value('id'):3}  score {region.get_value('score'):.2f}  {region.get_string('cue')}"
                f"  {width}x{height} at {x},{y}"
            )
        sample = found.get_value("anomaly-map")
        if sample:
            size = sample.get_caps().get_structure(0)
            width, height = size.get_value("width"), size.get_value("height")
            content = sample.get_buffer().extract_dup(0, sample.get_buffer().get_size())
            # Rows are padded to a multiple of four bytes.
            stride = (width + 3) // 4 * 4
            highest = max(max(content[y * stride : y * stride + width]) for y in range(height))
            print_line(f"  map {width}x{height}  highest {highest}")
    return Gst.PadProbeReturn.OK


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: read_meta.py FILE-OR-URI")
    Gst.init(None)
    source = sys.argv[1]
    uri = source if Gst.uri_is_valid(source) else pathlib.Path(source).absolute().as_uri()
    pipeline = Gst.parse_launch("uridecodebin name=source ! videoconvert ! vaeanomaly attach-map=true ! fakesink name=sink")
    pipeline.get_by_name("source").set_property("uri", uri)
    pipeline.get_by_name("sink").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, on_buffer)

    pipeline.set_state(Gst.State.PLAYING)
    status = 0
    while True:
        message = pipeline.get_bus().timed_pop(Gst.CLOCK_TIME_NONE)
        if message.type == Gst.MessageType.EOS:
            break
        if message.type == Gst.MessageType.ERROR:
            print(message.parse_error(), file=sys.stderr)
            status = 1
            break
        structure = message.get_structure()
        if message.type == Gst.MessageType.ELEMENT and structure.has_name("vaeanomaly"):
            print_line("message " + structure.to_string())
    pipeline.set_state(Gst.State.NULL)
    sys.exit(status)


main()
