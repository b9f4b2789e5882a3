"""`python -m sandbox_service` is `sandbox-service`."""

import sys

from sandbox_service.cli import main

sys.exit(main())
