import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

export function isObject(json: JsonValue | undefined): json is JsonObject {
	return typeof json === "object" && json !== null && !Array.isArray(json);
}

/** compact writes a value on one line, and nothing for an absent one. */
export function compact(json: JsonValue | undefined): string {
	return json === undefined ? "" : JSON.stringify(json);
}

/** lineWidth is what a value may take before it is spread over several lines. */
const lineWidth = 48;

/** pretty writes a value for reading: over several lines only where it does not fit on one. */
export function pretty(json: JsonValue | undefined, indent = ""): string {
	const line = compact(json);
	if (line.length + indent.length <= lineWidth || typeof json !== "object" || json === null) return line;
	const inner = `${indent}  `;
	const items = Array.isArray(json)
		? json.map((item) => pretty(item, inner))
		: Object.entries(json).map(([name, value]) => `${JSON.stringify(name)}: ${pretty(value, inner)}`);
	const [open, close] = Array.isArray(json) ? "[]" : "{}";
	return `${open}\n${items.map((item) => inner + item).join(",\n")}\n${indent}${close}`;
}
