<?php

// Is this webhook genuine? Needs nothing but PHP 8.0 or newer.
//
// echo '{"secret": "whsec_...", "headers": {...}, "body": "...", "now": 1767225605}' | php verify_webhook.php

declare(strict_types=1);

const TOLERANCE_S = 5 * 60;

/**
 * Whether $body, the bytes as they came in, was signed with $secret within the last five minutes.
 *
 * $headers as getallheaders() gives them. Nothing in the request makes it throw; it throws when your secret is not
 * the text that you were given.
 */
function is_genuine(string $secret, array $headers, string $body, ?float $now = null): bool
{
    $key = base64_decode(str_starts_with($secret, 'whsec_') ? substr($secret, 6) : $secret, true);
    if ($key === false || $key === '') {
        throw new InvalidArgumentException('the secret is empty or not base64');
    }
    $given = array_change_key_case($headers);
    $id = (string) ($given['webhook-id'] ?? '');
    $timestamp = (string) ($given['webhook-timestamp'] ?? '');
    if ($id === '' || !preg_match('/^[0-9]{1,15}$/D', $timestamp)) {
        return false;
    }
    if (abs(($now ?? microtime(true)) - (int) $timestamp) > TOLERANCE_S) {
        return false;
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    // a rotated secret brings two signatures; of entries we do not know, none is the expected one
    foreach (explode(' ', (string) ($given['webhook-signature'] ?? '')) as $entry) {
        if (hash_equals($expected, $entry)) {
            return true;
        }
    }
    return false;
}

if (PHP_SAPI === 'cli' && realpath($_SERVER['argv'][0]) === __FILE__) {
    $asked = json_decode(file_get_contents('php://stdin'), true, 512, JSON_THROW_ON_ERROR);
    echo is_genuine($asked['secret'], $asked['headers'], $asked['body'], $asked['now'] ?? null) ? "true\n" : "false\n";
}
