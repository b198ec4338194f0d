"""A notebook starts the job by ``ScriptProcessor``, as it started the replaced script."""

from __future__ import annotations

from pathlib import Path

import boto3

from reviewsum_assets.checkpoints.manifest import COLUMNS
from reviewsum_assets.compute.job_package import ENTRY_POINT, build_package, write
from reviewsum_assets.storage import places
from tests.support.pipeline import texts, write_dump
from tests.support.processing import ProcessingEmulator
from tests.support.sagemaker import ROLE, lake_on


def test_the_call_of_the_replaced_script_works(
    processing: ProcessingEmulator, pegasus: Path, tmp_path: Path
) -> None:
    from sagemaker.core import shapes
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.core.processing import ScriptProcessor

    lake, root = lake_on(processing), "/opt/ml/processing"
    lake.put_file(places.GROUPED_CSV, write_dump(tmp_path / "product_grouped.csv", texts(3)))
    for file in pegasus.iterdir():
        lake.put_file(f"{places.PEGASUS_MODEL}/{file.name}", file)
    write(build_package(), tmp_path / "job_package")
    for file in (tmp_path / "job_package").iterdir():
        if file.name != ENTRY_POINT:
            lake.put_file(f"requirements/{file.name}", file)

    inputs = {
        "input": places.GROUPED_CSV,
        "input/requirements": "requirements/",
        "pegasus_model": f"{places.PEGASUS_MODEL}/",
    }
    processor = ScriptProcessor(
        role=ROLE,
        image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1",
        command=["python3"],
        instance_count=1,
        instance_type="ml.g5.12xlarge",
        env={"REVIEWSUM_MAX_LENGTH": "16", "REVIEWSUM_MIN_LENGTH": "4", "REVIEWSUM_WORKERS": "1"},
        sagemaker_session=Session(boto3.Session(), default_bucket=processing.bucket),
    )
    processor.run(
        code=str(tmp_path / "job_package" / ENTRY_POINT),
        inputs=[
            shapes.ProcessingInput(
                input_name=path.rpartition("/")[2],
                s3_input=shapes.ProcessingS3Input(
                    s3_uri=lake.uri_of(key),
                    local_path=f"{root}/{path}",
                    s3_data_type="S3Prefix",
                    s3_input_mode="File",
                ),
            )
            for path, key in inputs.items()
        ],
        outputs=[
            shapes.ProcessingOutput(
                output_name="output",
                s3_output=shapes.ProcessingS3Output(
                    s3_uri=lake.uri_of("output"),
                    local_path=f"{root}/output",
                    s3_upload_mode="EndOfJob",
                ),
            )
        ],
        arguments=["--top_k", "30700"],
        logs=False,
    )

    (job,) = processing.jobs
    assert job.status == "Completed", job
    merged = (lake.get(f"output/{places.MERGED_CSV}") or b"").decode().splitlines()
    assert merged[0] == ",".join(COLUMNS)
    assert len(merged) == 4
    assert lake.head(f"output/{places.checkpoint_csv(1)}") is not None
