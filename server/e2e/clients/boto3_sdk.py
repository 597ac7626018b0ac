"""boto3's client of Bedrock, signed with a hedgerow key or with an AWS key that hedgerow stores."""

import os

import boto3
from setting import BEDROCK, HEADERS, TOOL, WORDS

client = boto3.client(
    "bedrock-runtime",
    endpoint_url=BEDROCK,
    region_name="eu-west-1",
    aws_access_key_id=os.environ.get("AWS_KEY") or os.environ["HEDGEROW_KEY"],
    aws_secret_access_key=os.environ.get("AWS_SECRET", "unused"),
)
client.meta.events.register("before-sign.*", lambda request, **_: [request.headers.add_header(k, v) for k, v in HEADERS.items()])
ask = {
    "modelId": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "messages": [{"role": "user", "content": [{"text": WORDS}]}],
    "inferenceConfig": {"maxTokens": 400},
}
client.converse(**ask)
for _ in client.converse_stream(**ask)["stream"]:
    pass
client.converse(**ask, toolConfig={"tools": [{"toolSpec": {"name": TOOL["name"], "inputSchema": {"json": TOOL["parameters"]}}}]})
