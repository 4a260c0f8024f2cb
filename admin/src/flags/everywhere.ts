import type { Transport } from "@connectrpc/connect";
import { callUnaryMethod } from "@connectrpc/connect-query";
import { type Flag, FlagService } from "../gen/guidon/v1/flag_pb.ts";

/**
 * everywhere reads one flag in all environments that have it. The server looks
 * for keys that contain this one, so that it may be on a later page.
 */
export async function everywhere(transport: Transport, key: string, signal?: AbortSignal): Promise<Flag[]> {
	const request = { query: key, includeArchived: true, pageSize: 1000 };
	const options = signal ? { signal } : {};
	let pageToken = "";
	do {
		const page = await callUnaryMethod(
			transport,
			FlagService.method.list,
			{ ...request, pageToken },
			options,
		);
		const flags = page.flags.filter((flag) => flag.key === key);
		if (flags.length > 0) return flags;
		pageToken = page.nextPageToken;
	} while (pageToken !== "");
	return [];
}

/** replaced is flags, which are sorted by key, with those of one key as they are now. */
export function replaced(flags: Flag[], key: string, now: Flag[]): Flag[] {
	const others = flags.filter((flag) => flag.key !== key);
	const place = others.findIndex((flag) => flag.key > key);
	return others.toSpliced(place === -1 ? others.length : place, 0, ...now);
}
