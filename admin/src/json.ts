import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

export function isObject(json: JsonValue | undefined): json is JsonObject {
	return typeof json === "object" && json !== null && !Array.isArray(json);
}

/** compact writes a value on one line, and nothing for an absent one. */
export function compact(json: JsonValue | undefined): string {
	return json === undefined ? "" : JSON.stringify(json);
}

/** pretty writes a value over several lines if it does not fit on one. */
export function pretty(json: JsonValue | undefined): string {
	const line = compact(json);
	return line.length <= 60 ? line : JSON.stringify(json, null, 2);
}
