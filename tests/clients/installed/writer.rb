# Writes rows as an application does: see writer.py. usage: writer.rb each|kept NAME URL
require "pg"

mode, name, url = ARGV
$stdout.sync = true
connection = nil
(1..).each do |seq|
  begin
    connection ||= PG.connect(url)
    sql = "INSERT INTO moves (client, seq) VALUES ($1, $2) RETURNING inet_server_port()"
    puts "ack #{seq} #{connection.exec_params(sql, [name, seq]).getvalue(0, 0)}"
    if mode == "each"
      connection.close
      connection = nil
    end
  rescue PG::Error => error
    puts "refused #{error.class} #{error.message.lines.first}"
    connection&.close rescue nil
    connection = nil
    sleep 0.02
  end
  sleep 0.1
end
