import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import { isObject } from "../json.ts";

/** descriptionOf is what a flag is for; imported flags say it in their metadata. */
export function descriptionOf({ description, definition }: Pick<Flag, "description" | "definition">): string {
	if (description !== "") return description;
	const metadata = definition?.metadata;
	return isObject(metadata) && typeof metadata.description === "string" ? metadata.description : "";
}
