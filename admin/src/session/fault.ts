import { Code, ConnectError } from "@connectrpc/connect";
import { type Conflict, ConflictSchema, InvalidSchema, type Problem } from "../gen/guidon/v1/change_pb.ts";

/** Fault is a refused or failed call in words: the cause first, then what to do. */
export interface Fault {
	code: Code;
	title: string;
	detail: string;
	/** problems of an invalid request, each with its place. */
	problems: Problem[];
	/** more counts problems that were left out. */
	more: number;
	/** conflict says what changed since the author looked. */
	conflict: Conflict | undefined;
}

export function faultOf(cause: unknown): Fault {
	const error = ConnectError.from(cause);
	const fault: Fault = {
		code: error.code,
		title: "Guidon refused this",
		detail: error.rawMessage,
		problems: error.findDetails(InvalidSchema).flatMap((invalid) => invalid.problems),
		more: error.findDetails(InvalidSchema).reduce((sum, invalid) => sum + invalid.more, 0),
		conflict: error.findDetails(ConflictSchema)[0],
	};
	// fetch reports a server it cannot reach as a TypeError.
	if (error.cause instanceof TypeError) return { ...fault, ...away, code: Code.Unavailable };
	switch (error.code) {
		case Code.Unavailable:
			return { ...fault, title: "Guidon is not available right now" };
		case Code.DeadlineExceeded:
			return {
				...fault,
				title: "Guidon did not answer in time",
				detail: "It may still have carried out the request; trying again is safe.",
			};
		case Code.Unauthenticated:
			return { ...fault, title: "Guidon does not accept this key" };
		case Code.PermissionDenied:
			return { ...fault, title: "This key may not do that" };
		case Code.NotFound:
			return { ...fault, title: "Not found" };
		case Code.Aborted:
			return { ...fault, title: "Something changed meanwhile" };
		case Code.InvalidArgument:
			return { ...fault, title: "Guidon refused this change" };
		case Code.ResourceExhausted:
			return { ...fault, title: "Too much at once" };
		case Code.Internal:
		case Code.Unknown:
			return { ...fault, title: "Guidon failed" };
		default:
			return fault;
	}
}

const away = {
	title: "Guidon does not answer",
	detail: "The server cannot be reached. Nothing was lost: what you see is as it was last known.",
};

/** isAway reports whether trying again later may help. */
export function isAway(cause: unknown): boolean {
	const error = ConnectError.from(cause);
	return (
		error.cause instanceof TypeError ||
		error.code === Code.Unavailable ||
		error.code === Code.DeadlineExceeded
	);
}
