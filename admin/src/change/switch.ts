import { callUnaryMethod } from "@connectrpc/connect-query";
import type { QueryClient } from "@tanstack/react-query";
import { readAgain } from "../flags/flags.ts";
import { ChangeService, type Conflict } from "../gen/guidon/v1/change_pb.ts";
import { faultOf } from "../session/fault.ts";
import { transport } from "../session/transport.ts";

/** Switch asks for a flag to be on or off in one environment. */
export interface Switch {
	environment: string;
	key: string;
	on: boolean;
	/** variants are what a kill may have the flag serve. */
	variants: string[];
	/**
	 * kill is the variant that everything under way is to serve too, or to serve
	 * no longer: an emergency. Without, only new requests change.
	 */
	kill?: string | undefined;
	reason: string;
	/** expected is the revision of the environment that the author looked at. */
	expected: bigint;
	/** idempotencyKey makes trying again safe. */
	idempotencyKey: string;
}

/** Applied is the server's answer; revision is 0 where nothing had to change. */
export interface Applied {
	revision: bigint;
}

/** conflictLimit is how many changes a conflict lists at most. */
const conflictLimit = 100;

/** maxRebases bounds how often a change follows an environment that moves. */
const maxRebases = 5;

/**
 * apply carries out a switch and reads the flag again before it is done, so
 * that what shows is the server's state. If others changed other flags
 * meanwhile it follows them; a change to this very flag is the author's to
 * look at, and fails.
 */
export async function apply(client: QueryClient, wish: Switch): Promise<Applied> {
	const revision = await commit(wish);
	// The change stands even if reading fails: then the poll shows it.
	await readAgain(client, wish.environment, wish.key, revision).catch(() => undefined);
	return { revision };
}

async function commit(wish: Switch): Promise<bigint> {
	const { environment, key, on, kill, reason, idempotencyKey } = wish;
	if (kill !== undefined) {
		const said = { environment, reason, idempotencyKey };
		const { method } = ChangeService;
		return on
			? (await callUnaryMethod(transport, method.unkill, { ...said, keys: [key] })).revision
			: (await callUnaryMethod(transport, method.kill, { ...said, kills: [{ key, variant: kill }] }))
					.revision;
	}
	let { expected } = wish;
	const state = on ? "ENABLED" : "DISABLED";
	for (let rebases = 0; ; rebases++) {
		try {
			const answer = await callUnaryMethod(transport, ChangeService.method.apply, {
				operations: [{ operation: { case: "setState", value: { environment, key, state } } }],
				expectedRevisions: { [environment]: expected },
				reason,
				idempotencyKey,
			});
			return answer.revisions[environment] ?? 0n;
		} catch (error) {
			const { conflict } = faultOf(error);
			if (conflict === undefined || rebases === maxRebases || mayTouch(conflict, key)) throw error;
			expected = conflict.revision;
		}
	}
}

/** mayTouch reports whether the flag is among what changed, as far as is known. */
export function mayTouch(conflict: Pick<Conflict, "changed">, key: string): boolean {
	const { changed } = conflict;
	if (changed.length === 0 || changed.length >= conflictLimit) return true;
	return changed.some(({ kind, name }) => kind === "flag" && name === key);
}

/** newIdempotencyKey needs no secure context, unlike crypto.randomUUID. */
export function newIdempotencyKey(): string {
	return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
		byte.toString(16).padStart(2, "0"),
	).join("");
}
