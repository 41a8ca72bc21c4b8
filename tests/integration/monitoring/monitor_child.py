"""`leeway monitor` on a host of another name: `python monitor_child.py HOST PORT_FILE`, with LEEWAY_… as ever."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from pathlib import Path

from monitoring.core.settings import load_settings
from monitoring.core.types import utc_now
from monitoring.process import MonitorProcess


def main(host: str, port_file: Path) -> None:
    """Run until SIGTERM."""
    socket.gethostname = lambda: host  # a machine has but one name, and this is to be two machines
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    monitor = MonitorProcess(load_settings(), utc_now)
    port = monitor.start()
    unfinished = port_file.with_suffix(".new")
    unfinished.write_text(str(port))
    unfinished.rename(port_file)
    stopping.wait()
    monitor.stop()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
