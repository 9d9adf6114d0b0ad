// Express 4 or 5, by its README.
const express = require(process.env.EXPRESS || 'express5')
const app = express()

app.get('/', (req, res) => {
  res.send(String(process.pid))
})

app.get('/heavy', (req, res) => {
  let n = 0
  for (let i = 0; i < 5000000; i++) n++
  res.send(String(n))
})

const server = app.listen(process.env.PORT, () => {
  console.log(`listening on port ${server.address().port}`)
})
