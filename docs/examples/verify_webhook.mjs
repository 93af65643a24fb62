// Is this webhook genuine? Needs nothing but Node.js 18 or newer.
//
// echo '{"secret": "whsec_...", "headers": {...}, "body": "...", "now": 1767225605}' | node verify_webhook.mjs

import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

const TOLERANCE_S = 5 * 60;

/**
 * Whether `body`, the bytes as they came in, was signed with `secret` within the last five minutes.
 *
 * Nothing in the request makes it throw; it throws when your secret is not the text that you were given.
 */
export function isGenuine(secret, headers, body, now = Date.now() / 1000) {
  const shown = secret.replace(/^whsec_/, "");
  const key = Buffer.from(shown, "base64");
  if (key.length === 0 || key.toString("base64") !== shown) throw new Error("the secret is empty or not base64");
  const given = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), String(value)]));
  const [id, timestamp, signatures] = ["id", "timestamp", "signature"].map((part) => given.get(`webhook-${part}`) ?? "");
  if (id === "" || !/^[0-9]{1,15}$/.test(timestamp)) return false;
  if (Math.abs(now - Number(timestamp)) > TOLERANCE_S) return false;
  const hash = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${hash}`);
  // a rotated secret brings two signatures; of entries we do not know, none is the expected one
  return signatures.split(" ").map((entry) => Buffer.from(entry))
    .some((entry) => entry.length === expected.length && timingSafeEqual(entry, expected));
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { secret, headers, body, now } = JSON.parse(readFileSync(0, "utf8"));
  console.log(isGenuine(secret, headers, Buffer.from(body), now));
}
