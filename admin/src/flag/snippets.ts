import type { JsonObject } from "@bufbuild/protobuf";
import type { Flag } from "../gen/guidon/v1/flag_pb.ts";

type Subject = Pick<Flag, "key" | "environment" | "type" | "reads">;

/** curlOf evaluates the flag by HTTP. */
export function curlOf({ key, environment, reads }: Subject, origin: string): string {
	const request = { environment, key, context: contextOf(reads) };
	return [
		`curl -s ${origin}/guidon.v1.EvaluationService/Evaluate \\`,
		`  -H "Authorization: Bearer $GUIDON_KEY" \\`,
		"  -H 'Content-Type: application/json' \\",
		`  -d ${quoted(JSON.stringify(request))}`,
	].join("\n");
}

/** commandOf evaluates the flag, and explains it, from a terminal. */
export function commandOf({ key, environment, reads }: Subject): string {
	return `guidon eval ${key} --environment ${environment} \\\n  --context ${quoted(JSON.stringify(contextOf(reads)))}`;
}

const goReads: Record<string, { method: string; fallback: string }> = {
	boolean: { method: "BooleanValue", fallback: "false" },
	string: { method: "StringValue", fallback: '""' },
	integer: { method: "IntValue", fallback: "0" },
	float: { method: "FloatValue", fallback: "0" },
	object: { method: "ObjectValue", fallback: "nil" },
};

/** goOf evaluates the flag with OpenFeature's Go client. */
export function goOf({ key, type, reads }: Subject): string {
	const { method, fallback } = goReads[type] ?? { method: "ObjectValue", fallback: "nil" };
	const attributes = Object.keys(contextOf(reads)).filter((name) => name !== "targetingKey");
	const fields = attributes.map((name) => `\t\t${JSON.stringify(name)}: ${name},\n`).join("");
	const context = fields === "" ? "nil" : `map[string]any{\n${fields}\t}`;
	return `value, err := client.${method}(ctx, ${JSON.stringify(key)}, ${fallback},\n\topenfeature.NewEvaluationContext(targetingKey, ${context}))`;
}

/** contextOf is an evaluation context to fill in, with what the targeting reads. */
function contextOf(reads: string[]): JsonObject {
	const context: JsonObject = { targetingKey: "" };
	for (const path of reads) {
		const [name = "", ...inner] = path.split(".");
		if (name === "$flagd" || name === "targetingKey") continue;
		context[name] = inner.length === 0 ? "" : { ...(context[name] as JsonObject), [inner.join(".")]: "" };
	}
	return context;
}

/** quoted makes one word of a text in any POSIX shell. */
function quoted(text: string): string {
	return `'${text.replaceAll("'", `'\\''`)}'`;
}
