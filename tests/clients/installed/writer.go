// Writes rows as an application does: see writer.py. usage: writer each|kept|pool NAME URL
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const insert = "INSERT INTO moves (client, seq) VALUES ($1, $2) RETURNING inet_server_port()"

func main() {
	mode, name, url := os.Args[1], os.Args[2], os.Args[3]
	ctx := context.Background()
	var connection *pgx.Conn
	var pool *pgxpool.Pool
	for seq := 1; ; seq++ {
		var port int
		var err error
		if mode == "pool" {
			if pool == nil {
				pool, err = pgxpool.Connect(ctx, url)
			}
			if err == nil {
				err = pool.QueryRow(ctx, insert, name, seq).Scan(&port)
			}
		} else {
			if connection == nil {
				connection, err = pgx.Connect(ctx, url)
			}
			if err == nil {
				err = connection.QueryRow(ctx, insert, name, seq).Scan(&port)
			}
		}
		if err == nil {
			fmt.Printf("ack %d %d\n", seq, port)
		} else {
			fmt.Printf("refused %q\n", err)
			time.Sleep(20 * time.Millisecond)
		}
		if connection != nil && (err != nil || mode == "each") {
			connection.Close(ctx)
			connection = nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}
