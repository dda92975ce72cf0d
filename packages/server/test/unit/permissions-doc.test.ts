import { readFileSync } from "node:fs";
import { OPERATIONS, OWN_OPERATIONS, type Permission, type Resource } from "@torpor/protocol";
import { expect, test } from "vitest";
import { LOGS_OPERATIONS } from "../../src/api/aws/logs/logs-operations.ts";
import { S3_ROUTES } from "../../src/api/s3/route.ts";

/** docs/permissions.md is what the tables of operations say. */

const RESOURCES: Readonly<Record<Resource["kind"], string>> = {
  any: "`*`",
  server: "`*`; keys of the server's own account only",
  arn: "the ARN in `%`",
  newImage: "the ARN that the image will have",
  connector: "the connector's ARN, with its id",
  newConnector: "the connector's ARN, with its name for an id",
  microvm: "the microvm's image",
  checkpoint: "the checkpoint's image",
  accessKey: "whom the key is for",
  newAccessKey: "whom the key will be for",
  logGroup: "the log group in `%`",
  account: "the account's root",
};

function rowOf(action: string, { on, passesRole, passesConnectors = {} }: Permission): string {
  const passed = [
    ...(passesRole === undefined ? [] : [`\`iam:PassRole\` on \`${passesRole}\``]),
    ...Object.entries(passesConnectors).map(
      ([member, absent]) => `\`lambda:PassNetworkConnector\` on \`${member}\` (absent: ${absent})`,
    ),
  ];
  const stream = on.kind === "logGroup" && on.stream ? `; its stream in \`${on.stream}\`` : "";
  const resource = RESOURCES[on.kind].replace(
    "%",
    "member" in on ? on.member : "members" in on ? on.members.join("` or `") : "",
  );
  return `| \`${action}\` | ${resource}${stream} | ${passed.join("; ")} |`;
}

const expected = [
  ...Object.entries(OPERATIONS).map(([name, { permission }]) => rowOf(`lambda:${name}`, permission)),
  ...Object.entries(OWN_OPERATIONS).map(([name, { permission }]) => rowOf(`torpor:${name}`, permission)),
  ...Object.entries(LOGS_OPERATIONS).map(([name, { permission }]) => rowOf(`logs:${name}`, permission)),
  ...S3_ROUTES.map(({ name, action }) => `| ${name} | \`${action}\` |`),
];

test("docs/permissions.md has every operation, with what it needs permission for", () => {
  const text = readFileSync(new URL("../../../../docs/permissions.md", import.meta.url), "utf8");
  const rows = text.split("\n").filter((line) => /^\| (`(lambda|torpor|logs):|[A-Z]\w+ +\| `s3:)/.test(line));
  expect(rows.map((row) => row.replace(/ +/g, " "))).toEqual(expected.map((row) => row.replace(/ +/g, " ")));
});
