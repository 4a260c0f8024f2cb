import { actorName } from "./entry.ts";

/** Actor is who acted, by name; the whole of it is the title. */
export function Actor({ actor }: { actor: string }) {
	return <span title={actor}>{actorName(actor)}</span>;
}
