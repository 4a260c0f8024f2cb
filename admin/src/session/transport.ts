import { createConnectTransport } from "@connectrpc/connect-web";
import { apiKey } from "./key.ts";

/** deadline of every call, in milliseconds. */
const deadline = 10_000;

/** transportWith makes calls to this origin with the key that current returns. */
export function transportWith(current: () => string | null) {
	return createConnectTransport({
		baseUrl: window.location.origin,
		defaultTimeoutMs: deadline,
		interceptors: [
			(next) => (request) => {
				const key = current();
				if (key !== null) request.header.set("Authorization", `Bearer ${key}`);
				return next(request);
			},
		],
	});
}

export const transport = transportWith(apiKey);
