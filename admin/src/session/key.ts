// The key lives as long as the tab: sessionStorage is neither shared with other
// tabs nor left behind.
const item = "guidon.key";

export function apiKey(): string | null {
	return sessionStorage.getItem(item);
}

export function keepKey(key: string): void {
	sessionStorage.setItem(item, key);
}

export function forgetKey(): void {
	sessionStorage.removeItem(item);
}
