"""Amazon SageMaker Processing on one machine: a real HTTP service whose jobs really run.

S3, SageMaker and CloudWatch Logs are answered by moto; a Processing job's entry point runs as one
process a host, with its inputs, outputs, logs, signals and exit code treated as the service
documents it. Where the documentation is silent, a comment says so at that place.
"""

from tests.support.processing.emulator import ProcessingEmulator, processing_emulator
from tests.support.processing.faults import Faults
from tests.support.processing.records import ApiCall, JobRecord

__all__ = ["ApiCall", "Faults", "JobRecord", "ProcessingEmulator", "processing_emulator"]
