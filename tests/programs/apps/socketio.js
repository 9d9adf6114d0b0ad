// socket.io, by its README.
const server = require('node:http').createServer()
const io = require('socket.io')(server)

io.on('connection', (client) => {
  client.on('who', (data, answer) => answer(process.pid))
  client.on('echo', (data, answer) => answer(data))
})

server.listen(process.env.PORT, () => {
  console.log(`listening on port ${server.address().port}`)
})
