// ws, by its README: an echo server. What comes from `pid` says who echoes.
const { WebSocketServer } = require('ws')

const wss = new WebSocketServer({ port: Number(process.env.PORT) }, () => {
  console.log(`listening on port ${wss.address().port}`)
})

wss.on('connection', function connection (ws) {
  ws.on('error', console.error)

  ws.on('message', function message (data) {
    ws.send(String(data) === 'pid' ? String(process.pid) : String(data))
  })
})
