<?php
// Writes rows as an application does: see writer.py. usage: writer.php each|kept NAME URL
[, $mode, $name, $url] = $argv;
error_reporting(0);
$connection = false;
for ($seq = 1; ; $seq++) {
    $connection = $connection ?: pg_connect($url, PGSQL_CONNECT_FORCE_NEW);
    $sql = 'INSERT INTO moves (client, seq) VALUES ($1, $2) RETURNING inet_server_port()';
    $row = $connection ? pg_query_params($connection, $sql, [$name, $seq]) : false;
    if ($row) {
        echo "ack $seq " . pg_fetch_result($row, 0, 0) . "\n";
    } else {
        echo 'refused ' . str_replace("\n", ' ', $connection ? pg_last_error($connection) : (error_get_last()['message'] ?? '')) . "\n";
    }
    if ($connection && (!$row || $mode === 'each')) {
        pg_close($connection);
        $connection = false;
    }
    usleep($row ? 100000 : 20000);
}
