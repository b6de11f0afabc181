"""The tiny job of the tests of runs."""

from tests.runs.conftest import job as job
