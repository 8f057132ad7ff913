// Has three hundred packages, answers one request and ends.
const http = require('http')
const assert = require('assert')

assert.strictEqual(require('shop-1').sum, 45150)
const server = http.createServer((request, response) => response.end('shop')).listen(0, '127.0.0.1', () => {
  http.get({ port: server.address().port, host: '127.0.0.1', agent: false }, answer => {
    answer.on('data', data => assert.strictEqual(String(data), 'shop'))
    answer.on('end', () => server.close())
  })
})
