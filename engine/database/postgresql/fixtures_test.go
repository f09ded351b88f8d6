package postgresql

import "time"

var testEnd = time.Now().Add(time.Hour)

// otherAuthority has signed nothing. Its key was thrown away.
const otherAuthority = `-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIUe6k7K7g8WrtogUMBPZmcQldjdBAwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTMwMTUzNTM2WhgPMjEyNjExMDYxNTM1
MzZaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
RBGxjcuNszhRlCVtskbjTKpjKh1Smbs9QBs7/xCaIMhIoEPX0ha24wfyjMDkvDcV
Ld590llgbOaWRn6jII5UuaNTMFEwHQYDVR0OBBYEFDUh3zkWYqGYfY0VBjTcbdiW
KfL4MB8GA1UdIwQYMBaAFDUh3zkWYqGYfY0VBjTcbdiWKfL4MA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAM4jLKxSyP6moo/RUPJi65xGAIOT/8r9
LI3k7yDOOb56AiEAo/lXwQl57843wLLabjTDqnb670jfvodgCQSTts9kKq0=
-----END CERTIFICATE-----`
