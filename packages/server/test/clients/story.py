"""What a program does with boto3: nothing here knows that it does not talk to AWS. Prints what it saw as JSON."""

import json
import sys
import time

import boto3

IMAGE, KNOWN = sys.argv[1:]
microvms = boto3.client("lambda-microvms")
connectors = boto3.client("lambda-core")
s3 = boto3.client("s3")
seen = {}


def until(what, state):
    """Asks until the state is there, as the documentation says: there are no waiters for these."""
    for _ in range(200):
        answer = what()
        found = answer.get("state") or answer["State"]
        if found == state:
            return found
        assert not found.endswith("FAILED"), found
        time.sleep(0.05)
    raise TimeoutError(f"{found}, not {state}")


def refused(call, **parameters):
    try:
        call(**parameters)
    except call.__self__.exceptions.ClientError as err:
        return [err.response["Error"]["Code"], err.response["ResponseMetadata"]["HTTPStatusCode"]]


s3.create_bucket(Bucket="boto3")
s3.put_object(Bucket="boto3", Key="app.zip", Body=b"a zip")
region = microvms.meta.region_name
image = microvms.create_microvm_image(
    name=IMAGE,
    baseImageArn=f"arn:aws:lambda:{region}:aws:microvm-image:al2023-1",
    buildRoleArn="arn:aws:iam::000000000000:role/build",
    codeArtifact={"uri": "s3://boto3/app.zip"},
    environmentVariables={"GREETING": "hello"},
    tags={"team": "a"},
)
arn = image["imageArn"]
seen["image"] = [image["state"], until(lambda: microvms.get_microvm_image(imageIdentifier=arn), "CREATED")]
version = microvms.get_microvm_image_version(imageIdentifier=arn, imageVersion="1.0")
seen["version"] = [version["status"], version["environmentVariables"], version["createdAt"].tzinfo is not None]

microvms.tag_resource(Resource=arn, Tags={"stage": "test"})
microvms.untag_resource(Resource=arn, TagKeys=["team"])
seen["tags"] = microvms.list_tags(Resource=arn)["Tags"]

run = microvms.run_microvm(
    imageIdentifier=arn,
    idlePolicy={"maxIdleDurationSeconds": 60, "suspendedDurationSeconds": 600, "autoResumeEnabled": True},
)
vm = run["microvmId"]
get = lambda: microvms.get_microvm(microvmIdentifier=vm)
seen["run"] = [run["state"], until(get, "RUNNING")]
token = microvms.create_microvm_auth_token(
    microvmIdentifier=vm, expirationInMinutes=5, allowedPorts=[{"port": 8080}, {"allPorts": {}}]
)
seen["token"] = [list(token["authToken"]), token["authToken"]["X-aws-proxy-auth"].count(".")]
microvms.suspend_microvm(microvmIdentifier=vm)
seen["suspend"] = until(get, "SUSPENDED")
microvms.resume_microvm(microvmIdentifier=vm)
seen["resume"] = until(get, "RUNNING")
seen["busy image"] = refused(microvms.delete_microvm_image, imageIdentifier=arn)
microvms.terminate_microvm(microvmIdentifier=vm)
seen["terminate"] = until(get, "TERMINATED")

pages = microvms.get_paginator("list_microvms").paginate(imageIdentifier=KNOWN)
ids = [item["microvmId"] for page in pages for item in page["items"]]
seen["pages"] = [len(ids), len(set(ids))]
small = microvms.get_paginator("list_microvms").paginate(
    imageIdentifier=KNOWN, PaginationConfig={"PageSize": 7, "MaxItems": 30}
)
seen["small pages"] = len(list(small.search("items[]")))

made = connectors.create_network_connector(
    Name="boto3",
    Configuration={
        "VpcEgressConfiguration": {
            "SubnetIds": ["subnet-1"],
            "NetworkProtocol": "IPv4",
            "AssociatedComputeResourceTypes": ["MicroVm"],
        }
    },
    OperatorRole="arn:aws:iam::000000000000:role/operator",
)
find = lambda: connectors.get_network_connector(Identifier=made["Id"])
seen["connector"] = [until(find, "ACTIVE"), find()["LastModified"].tzinfo is not None]
names = connectors.get_paginator("list_network_connectors").paginate().search("NetworkConnectors[].Name")
seen["connectors"] = list(names)
connectors.delete_network_connector(Identifier=made["Id"])

seen["errors"] = [
    refused(microvms.get_microvm, microvmIdentifier="microvm-3f0c2b7e-8a41-3d5c-9e77-1b2c3d4e5f60"),
    refused(microvms.get_microvm_image, imageIdentifier="demo"),
    refused(connectors.get_network_connector, Identifier="nobody"),
]
seen["delete"] = microvms.delete_microvm_image(imageIdentifier=arn)["state"]
for _ in range(200):
    gone = refused(microvms.get_microvm_image, imageIdentifier=arn)
    if gone:
        break
    time.sleep(0.05)
seen["gone"] = gone
print(json.dumps(seen))
