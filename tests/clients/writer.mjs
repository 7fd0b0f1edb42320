// Writes rows as an application does: see writer.py. usage: writer.mjs kept|pool NAME URL
import postgres from "postgres";

const [mode, name, url] = process.argv.slice(2);
const open = () => postgres(url, { target_session_attrs: "read-write", max: mode === "pool" ? 3 : 1, connect_timeout: 5, backoff: () => 0.02, onnotice: () => {} });
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// What a server says to a session that was just starting nobody awaits: the library throws it, and the query never ends (3.4.9).
process.on("uncaughtException", (error) => console.log(`refused ${error.code} ${error.message}, thrown`));
const silent = () => sleep(5000).then(() => { throw Object.assign(new Error("no answer"), { code: "silent" }); });

let sql = open();
for (let seq = 1; ; seq++) {
  try {
    const inserted = sql`INSERT INTO moves (client, seq) VALUES (${name}, ${seq}) RETURNING inet_server_port() AS port`;
    const [row] = await Promise.race([inserted, silent()]);
    console.log(`ack ${seq} ${row.port}`);
  } catch (error) {
    console.log(`refused ${error.code} ${error.message}`);
    // After a session that was ended within a statement, the library takes the next server without asking whether it is
    // read-only; after one that was ended while it asked that of a server before 14, it can ask no more (3.4.9): a new client can.
    if (["25006", "silent"].includes(error.code) || error instanceof TypeError) {
      sql.end({ timeout: 0 });
      sql = open();
    }
    await sleep(20);
  }
  await sleep(100);
}
